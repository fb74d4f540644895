# One word of a command line: no blank, no quote.
type Straas::Word = Pattern[/\A[\x21\x23-\x26\x28-\x7e]+\z/]
