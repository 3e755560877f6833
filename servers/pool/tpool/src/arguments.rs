//! The command line: global options first, then a command with options of its own.

use pool::block_device::Access;

use crate::failure::Failure;

/// What was asked for.
#[derive(Debug)]
pub struct Arguments {
    /// Paths of images or devices.
    pub devices: Vec<String>,
    /// Data sets with the key or passphrase that unlocks them.
    pub keys: Vec<(String, String)>,
    /// `--read-only` forbids commands that change something.
    pub access: Access,
    /// The command and its arguments.
    pub command: Vec<String>,
}

impl Arguments {
    /// Splits the global options from the command.
    pub fn parse(words: Vec<String>) -> Result<Arguments, Failure> {
        let mut arguments = Arguments {
            devices: Vec::new(),
            keys: Vec::new(),
            access: Access::ReadWrite,
            command: Vec::new(),
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or_else(|| Failure::Usage(format!("{word} needs a value")))
            };
            match word.as_str() {
                "--dev" => arguments.devices.push(value()?),
                "--key" => {
                    let text = value()?;
                    let (dataset, secret) = text
                        .split_once('=')
                        .ok_or_else(|| Failure::Usage("--key takes DATASET=SECRET".into()))?;
                    arguments.keys.push((dataset.into(), secret.into()));
                }
                "--read-only" => arguments.access = Access::ReadOnly,
                option if option.starts_with('-') => {
                    return Err(Failure::Usage(format!("no option is called '{option}'")));
                }
                _ => {
                    arguments.command.push(word);
                    arguments.command.extend(words.by_ref());
                }
            }
        }
        if arguments.devices.is_empty() {
            return Err(Failure::Usage("--dev is missing".into()));
        }
        Ok(arguments)
    }
}

/// Options of one command: single letters, of which some take a value, and what follows them.
pub struct Options<'a> {
    letters: Vec<(char, Option<&'a str>)>,
    /// The arguments that are no options.
    pub rest: Vec<&'a str>,
}

impl<'a> Options<'a> {
    /// Reads `words`; `plain` are the letters without a value, `valued` those with one.
    pub fn parse(words: &[&'a str], plain: &str, valued: &str) -> Result<Options<'a>, Failure> {
        let mut options = Options {
            letters: Vec::new(),
            rest: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                options.rest.push(word);
                continue;
            };
            for (at, letter) in letters.char_indices() {
                if plain.contains(letter) {
                    options.letters.push((letter, None));
                } else if valued.contains(letter) {
                    let inline = &letters[at + letter.len_utf8()..];
                    let value = if inline.is_empty() {
                        words.next().copied()
                    } else {
                        Some(inline)
                    };
                    let value =
                        value.ok_or_else(|| Failure::Usage(format!("-{letter} needs a value")))?;
                    options.letters.push((letter, Some(value)));
                    break;
                } else {
                    return Err(Failure::Usage(format!("no option is called '-{letter}'")));
                }
            }
        }
        Ok(options)
    }

    /// Whether a letter was given.
    pub fn has(&self, letter: char) -> bool {
        self.letters.iter().any(|(given, _)| *given == letter)
    }

    /// All values given to a letter that may come again, in order.
    pub fn values(&self, letter: char) -> impl Iterator<Item = &'a str> {
        self.letters
            .iter()
            .filter(move |(given, _)| *given == letter)
            .filter_map(|(_, value)| *value)
    }

    /// The value given to a letter.
    pub fn value(&self, letter: char) -> Option<&'a str> {
        self.letters
            .iter()
            .rev()
            .find(|(given, _)| *given == letter)
            .and_then(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_options_end_at_the_command() {
        let words = ["--dev", "a", "zfs", "list", "-H"]
            .map(String::from)
            .to_vec();
        let arguments = Arguments::parse(words).ok().unwrap();
        assert_eq!(arguments.devices, ["a"]);
        assert_eq!(arguments.command, ["zfs", "list", "-H"]);
    }

    #[test]
    fn letters_can_be_joined_and_take_values() {
        let options = Options::parse(&["-Hp", "-o", "name,used", "tank"], "Hp", "o")
            .ok()
            .unwrap();
        assert!(options.has('H') && options.has('p') && !options.has('r'));
        assert_eq!(
            (options.value('o'), options.rest),
            (Some("name,used"), vec!["tank"])
        );
    }

    #[test]
    fn a_letter_nobody_knows_is_refused() {
        assert!(matches!(
            Options::parse(&["-x"], "Hp", ""),
            Err(Failure::Usage(_))
        ));
    }
}
