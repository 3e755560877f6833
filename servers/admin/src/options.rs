//! Options of commands, in the form of getopt: `-H`, `-Hp`, `-o value`, `-ovalue`, `--`.
//!
//! Options may stand behind operands, because `vmadm stop UUID -F` is how people write it.

use alloc::string::String;
use alloc::vec::Vec;

/// An option that the command does not have, or one without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionError {
    /// The command has no such option.
    Unknown(char),
    /// The option needs a value.
    NoValue(char),
    /// A word with two dashes: options have one letter.
    Long,
}

impl core::fmt::Display for OptionError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unknown(name) => write!(formatter, "unknown option -{name}"),
            Self::NoValue(name) => write!(formatter, "option -{name} needs a value"),
            Self::Long => formatter.write_str("options are one letter behind one dash"),
        }
    }
}

/// The arguments of a command, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    flags: Vec<char>,
    values: Vec<(char, String)>,
    operands: Vec<String>,
}

impl Options {
    /// Sorts `arguments`; `flags` are the options without and `valued` those with a value.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn parse(arguments: &[String], flags: &str, valued: &str) -> Result<Self, OptionError> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix('-') {
                Some("-") => {
                    options.operands.extend(arguments.by_ref().cloned());
                }
                Some(long) if long.starts_with('-') => return Err(OptionError::Long),
                Some(letters) if !letters.is_empty() => {
                    options.letters(letters, &mut arguments, flags, valued)?;
                }
                _ => options.operands.push(argument.clone()),
            }
        }
        Ok(options)
    }

    fn letters<'a>(
        &mut self,
        letters: &str,
        arguments: &mut impl Iterator<Item = &'a String>,
        flags: &str,
        valued: &str,
    ) -> Result<(), OptionError> {
        let mut rest = letters.chars();
        while let Some(name) = rest.next() {
            if flags.contains(name) {
                self.flags.push(name);
            } else if valued.contains(name) {
                let attached = rest.as_str();
                let value = if attached.is_empty() {
                    arguments
                        .next()
                        .cloned()
                        .ok_or(OptionError::NoValue(name))?
                } else {
                    attached.into()
                };
                self.values.push((name, value));
                return Ok(());
            } else {
                return Err(OptionError::Unknown(name));
            }
        }
        Ok(())
    }

    /// Whether flag `name` was given.
    pub fn has(&self, name: char) -> bool {
        self.flags.contains(&name)
    }

    /// The value of option `name`; the last one, if it was given twice.
    pub fn value(&self, name: char) -> Option<&str> {
        let mut values = self.values.iter().rev();
        values
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value.as_str())
    }

    /// What is no option.
    pub fn operands(&self) -> &[String] {
        &self.operands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, OptionError> {
        let arguments: Vec<String> = line.split_whitespace().map(String::from).collect();
        Options::parse(&arguments, "Hp", "os")
    }

    #[test]
    fn options_stand_alone_together_and_behind() {
        let options = parse("-Hp a -o x,y -sz b -- -H").unwrap();
        assert!(options.has('H') && options.has('p'));
        assert_eq!(options.value('o'), Some("x,y"));
        assert_eq!(options.value('s'), Some("z"));
        assert_eq!(options.operands(), ["a", "b", "-H"]);
    }

    #[test]
    fn a_lone_dash_is_an_operand() {
        assert_eq!(parse("-").unwrap().operands(), ["-"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse("-x"), Err(OptionError::Unknown('x')));
        assert_eq!(parse("a -o"), Err(OptionError::NoValue('o')));
        assert_eq!(parse("--os=1"), Err(OptionError::Long));
        assert_eq!(parse("-H -o 1 -o 2").unwrap().value('o'), Some("2"));
    }
}
