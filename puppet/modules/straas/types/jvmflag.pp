# One flag of the JVM, safe in a shell script without quotes.
type Straas::Jvmflag = Pattern[/\A-[A-Za-z0-9:+=._,\/%@-]+\z/]
