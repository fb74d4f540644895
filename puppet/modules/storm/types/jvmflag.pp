# One flag of the JVM, safe in a shell script without quotes.
type Storm::Jvmflag = Pattern[/\A-[A-Za-z0-9:+=._,\/%@-]+\z/]
