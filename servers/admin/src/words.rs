//! Splits a command line into statements, commands and words.
//!
//! The part of the POSIX shell grammar that is worth having without variables and files: quotes,
//! escapes, `$?`, comments, `|`, `;`, `&&`, `||`. Completion uses the same splitter, so that what is
//! completed is what would be run.

use alloc::string::String;
use alloc::vec::Vec;

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntaxError {
    /// A quote that does not end.
    Quote,
    /// A backslash at the very end.
    Escape,
    /// `|`, `&&`, `||` or `;` with no command on one of its sides.
    MissingCommand,
    /// A character that means something to other shells and nothing here.
    Unsupported(char),
}

impl core::fmt::Display for SyntaxError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Quote => formatter.write_str("a quote is not closed"),
            Self::Escape => formatter.write_str("nothing follows the backslash"),
            Self::MissingCommand => formatter.write_str("a command is missing"),
            Self::Unsupported(character) => {
                write!(formatter, "'{character}' is not supported; quote it")
            }
        }
    }
}

/// When a statement is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Whatever happened before.
    Always,
    /// If the statement before it succeeded (`&&`).
    Success,
    /// If the statement before it failed (`||`).
    Failure,
}

/// Commands joined by pipes; each is at least one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// When it is run.
    pub condition: Condition,
    /// Its commands, each reading what the one before wrote.
    pub commands: Vec<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Pipe,
    End(Condition),
}

/// The word that the cursor is in, and what stands before it in the same command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// The words before it, without quotes.
    pub before: Vec<String>,
    /// The word up to the cursor, without quotes.
    pub word: String,
    /// Where the word begins in the line, in characters.
    pub start: usize,
    /// Whether the command reads what another one writes.
    pub piped: bool,
}

/// The statements of `line`; `status` is what `$?` stands for.
///
/// # Errors
/// [`SyntaxError`]; nothing of a wrong line is run.
pub fn parse(line: &str, status: u8) -> Result<Vec<Statement>, SyntaxError> {
    let mut lexer = Lexer::new(line, status);
    let mut statements = Vec::new();
    let mut condition = Condition::Always;
    let mut commands = Vec::new();
    let mut words = Vec::new();
    while let Some(token) = lexer.next()? {
        match token {
            Token::Word(word) => words.push(word),
            Token::Pipe if words.is_empty() => return Err(SyntaxError::MissingCommand),
            Token::Pipe => commands.push(core::mem::take(&mut words)),
            Token::End(_) if words.is_empty() => return Err(SyntaxError::MissingCommand),
            Token::End(next) => {
                commands.push(core::mem::take(&mut words));
                statements.push(Statement {
                    condition,
                    commands: core::mem::take(&mut commands),
                });
                condition = next;
            }
        }
    }
    if !words.is_empty() {
        commands.push(words);
        statements.push(Statement {
            condition,
            commands,
        });
    } else if !commands.is_empty() || condition != Condition::Always {
        return Err(SyntaxError::MissingCommand);
    }
    Ok(statements)
}

/// The word at the end of `line`, which is the line up to the cursor. A quote that is still open is
/// taken as closed there.
pub fn partial(line: &str) -> Partial {
    let mut lexer = Lexer::new(line, 0);
    let mut before = Vec::new();
    let mut piped = false;
    loop {
        lexer.skip_blanks();
        let start = lexer.position;
        let token = lexer.next();
        let at_end = lexer.position >= lexer.characters.len();
        match token {
            Ok(Some(Token::Word(word))) if at_end => {
                return Partial {
                    before,
                    word,
                    start,
                    piped,
                };
            }
            Ok(Some(Token::Word(word))) => before.push(word),
            Ok(Some(token)) => {
                piped = token == Token::Pipe;
                before.clear();
            }
            Ok(None) => {
                return Partial {
                    before,
                    word: String::new(),
                    start,
                    piped,
                };
            }
            Err(_) => {
                return Partial {
                    before,
                    word: lexer.word,
                    start,
                    piped,
                };
            }
        }
    }
}

/// `word` as it must be typed to be one word.
pub fn quote(word: &str) -> String {
    let mut quoted = String::new();
    for character in word.chars() {
        if is_special(character) || character.is_whitespace() || "'\"\\$#".contains(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

/// Characters that end a word wherever they stand outside of quotes.
fn is_special(character: char) -> bool {
    matches!(character, '|' | ';' | '&' | '<' | '>' | '(' | ')' | '`')
}

struct Lexer {
    characters: Vec<char>,
    position: usize,
    status: u8,
    /// The word that is being read, kept here so that an unfinished one can be completed.
    word: String,
}

impl Lexer {
    fn new(line: &str, status: u8) -> Self {
        Self {
            characters: line.chars().collect(),
            position: 0,
            status,
            word: String::new(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.position).copied()
    }

    fn take(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.position += 1;
        Some(character)
    }

    fn take_if(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.position += usize::from(found);
        found
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.position += 1;
        }
    }

    fn next(&mut self) -> Result<Option<Token>, SyntaxError> {
        self.skip_blanks();
        let Some(character) = self.peek() else {
            return Ok(None);
        };
        match character {
            '#' => {
                self.position = self.characters.len();
                Ok(None)
            }
            _ if is_special(character) => self.operator().map(Some),
            _ => self
                .word()
                .map(|()| Some(Token::Word(core::mem::take(&mut self.word)))),
        }
    }

    fn operator(&mut self) -> Result<Token, SyntaxError> {
        match self.take() {
            Some('|') if self.take_if('|') => Ok(Token::End(Condition::Failure)),
            Some('|') => Ok(Token::Pipe),
            Some('&') if self.take_if('&') => Ok(Token::End(Condition::Success)),
            Some(';') => Ok(Token::End(Condition::Always)),
            other => Err(SyntaxError::Unsupported(other.unwrap_or(';'))),
        }
    }

    /// Reads one word into `self.word`.
    fn word(&mut self) -> Result<(), SyntaxError> {
        self.word.clear();
        while let Some(character) = self.peek() {
            if character.is_whitespace() || is_special(character) {
                break;
            }
            self.position += 1;
            match character {
                '\\' => {
                    let next = self.take().ok_or(SyntaxError::Escape)?;
                    self.word.push(next);
                }
                '\'' => self.single_quoted()?,
                '"' => self.double_quoted()?,
                '$' if self.take_if('?') => self.push_status(),
                _ => self.word.push(character),
            }
        }
        Ok(())
    }

    fn single_quoted(&mut self) -> Result<(), SyntaxError> {
        loop {
            match self.take().ok_or(SyntaxError::Quote)? {
                '\'' => return Ok(()),
                character => self.word.push(character),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<(), SyntaxError> {
        loop {
            match self.take().ok_or(SyntaxError::Quote)? {
                '"' => return Ok(()),
                '\\' => match self.take().ok_or(SyntaxError::Quote)? {
                    character @ ('"' | '\\' | '$' | '`') => self.word.push(character),
                    character => self.word.extend(['\\', character]),
                },
                '$' if self.take_if('?') => self.push_status(),
                character => self.word.push(character),
            }
        }
    }

    fn push_status(&mut self) {
        self.word.push_str(&alloc::format!("{}", self.status));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Vec<String> {
        let statements = parse(line, 7).unwrap();
        assert_eq!(statements.len(), 1, "{line}");
        assert_eq!(statements[0].commands.len(), 1, "{line}");
        statements[0].commands[0].clone()
    }

    #[test]
    fn quotes_and_escapes_make_one_word() {
        assert_eq!(words(r"a 'b  c' d\ e"), ["a", "b  c", "d e"]);
        assert_eq!(
            words(r#"echo "a \"b\" \n 'c'" x"y"z"#),
            ["echo", r#"a "b" \n 'c'"#, "xyz"]
        );
        assert_eq!(words(r"'' a"), ["", "a"]);
        assert_eq!(words(r#"echo '{"a":1}'"#), ["echo", r#"{"a":1}"#]);
    }

    #[test]
    fn the_status_is_put_in_except_in_single_quotes() {
        assert_eq!(
            words(r#"echo $? "$?" '$?' \$? $x"#),
            ["echo", "7", "7", "$?", "$?", "$x"]
        );
    }

    #[test]
    fn comments_and_blank_lines_are_nothing() {
        assert_eq!(parse("", 0), Ok(vec![]));
        assert_eq!(parse("   # vmadm", 0), Ok(vec![]));
        assert_eq!(words("ps # all"), ["ps"]);
        assert_eq!(words("a#b"), ["a#b"]);
    }

    #[test]
    fn statements_and_pipes_are_split() {
        let statements = parse("a x|b; c && d || e;", 0).unwrap();
        let conditions: Vec<_> = statements.iter().map(|s| s.condition).collect();
        assert_eq!(
            conditions,
            [
                Condition::Always,
                Condition::Always,
                Condition::Success,
                Condition::Failure
            ]
        );
        assert_eq!(statements[0].commands, [vec!["a", "x"], vec!["b"]]);
    }

    #[test]
    fn wrong_lines_are_refused() {
        for (line, error) in [
            ("a 'b", SyntaxError::Quote),
            ("a \"b\\", SyntaxError::Quote),
            ("a \\", SyntaxError::Escape),
            ("| a", SyntaxError::MissingCommand),
            ("a |", SyntaxError::MissingCommand),
            ("a | ; b", SyntaxError::MissingCommand),
            ("a &&", SyntaxError::MissingCommand),
            (";", SyntaxError::MissingCommand),
            ("a > b", SyntaxError::Unsupported('>')),
            ("a & b", SyntaxError::Unsupported('&')),
        ] {
            assert_eq!(parse(line, 0), Err(error), "{line}");
        }
    }

    #[test]
    fn the_word_at_the_cursor_is_found_with_its_command() {
        let found = partial("ps; vmadm get 'ab");
        assert_eq!(found.before, ["vmadm", "get"]);
        assert_eq!((found.word.as_str(), found.start), ("ab", 14));
        let found = partial("cat /boot/x | ");
        assert_eq!((found.before.len(), found.piped), (0, true));
        assert_eq!((found.word.as_str(), found.start), ("", 14));
        let found = partial("vmadm ");
        assert_eq!(
            (found.before.as_slice(), found.start),
            (&["vmadm".to_owned()][..], 6)
        );
    }

    proptest! {
        #[test]
        fn any_line_is_parsed_or_refused(line in "[ a-c'\"\\\\$?#|;&<é]{0,40}") {
            let _ = parse(&line, 1);
            let found = partial(&line);
            prop_assert!(found.start <= line.chars().count());
        }

        #[test]
        fn a_quoted_word_is_one_word_again(word in "[^\\p{Cc}]{1,30}") {
            let statements = parse(&quote(&word), 0).unwrap();
            prop_assert_eq!(&statements[0].commands, &[vec![word]]);
        }
    }
}
