//! A command line taken apart the way popt does it, which `ipvsadm` is linked with.
//!
//! Short options may stand together (`-Ln`), an argument may be the rest of the word (`-w5`, `-w=5`)
//! or the next one, whatever it looks like (`-w -1`); an optional argument is not taken from the
//! next word if that begins with a dash. Long options are never abbreviated. Options and arguments
//! may be mixed; `--` ends the options.

/// Whether an option takes an argument.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Takes {
    /// None.
    Nothing,
    /// One.
    Argument,
    /// One, or none.
    Optional,
}

/// One option that is understood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spelling<T: 'static> {
    /// What it means.
    pub(super) option: T,
    /// `-x`.
    pub(super) short: Option<char>,
    /// `--name`.
    pub(super) long: &'static str,
    /// Its argument.
    pub(super) takes: Takes,
}

/// An option as found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Found<T> {
    /// Which.
    pub(super) option: T,
    /// Its argument.
    pub(super) argument: Option<String>,
    /// The word that was read last, as popt names an option in complaints.
    pub(super) word: String,
}

/// What is wrong with a word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct BadWord {
    /// The word.
    pub(super) word: String,
    /// popt's sentence.
    pub(super) what: &'static str,
}

/// Reads options one after another and keeps the other words.
#[derive(Debug)]
pub(super) struct Words<'a, T: 'static> {
    spellings: &'static [Spelling<T>],
    line: &'a [String],
    next: usize,
    /// Rest of a word of short options.
    rest: Option<&'a str>,
    only_arguments: bool,
    arguments: Vec<String>,
}

impl<'a, T: Copy> Words<'a, T> {
    pub(super) fn new(spellings: &'static [Spelling<T>], words: &'a [String]) -> Self {
        Self {
            spellings,
            line: words,
            next: 0,
            rest: None,
            only_arguments: false,
            arguments: Vec::new(),
        }
    }

    /// The next option; `None` at the end.
    pub(super) fn option(&mut self) -> Option<Result<Found<T>, BadWord>> {
        loop {
            if let Some(rest) = self.rest.take()
                && let Some(letter) = rest.chars().next()
            {
                return Some(self.short(letter, &rest[letter.len_utf8()..]));
            }
            let word = self.line.get(self.next)?.as_str();
            self.next += 1;
            if self.only_arguments || !word.starts_with('-') || word == "-" {
                self.arguments.push(word.to_owned());
            } else if word == "--" {
                self.only_arguments = true;
            } else if let Some(long) = word.strip_prefix("--") {
                return Some(self.long(long));
            } else {
                self.rest = Some(&word[1..]);
            }
        }
    }

    /// The words that are no options.
    pub(super) fn into_arguments(self) -> Vec<String> {
        self.arguments
    }

    fn short(&mut self, letter: char, rest: &'a str) -> Result<Found<T>, BadWord> {
        let spelling = self.spellings.iter().find(|s| s.short == Some(letter));
        let Some(spelling) = spelling else {
            return Err(self.bad("unknown option"));
        };
        if spelling.takes == Takes::Nothing {
            self.rest = Some(rest).filter(|rest| !rest.is_empty());
            return self.found(spelling, None);
        }
        let attached = rest.strip_prefix('=').unwrap_or(rest);
        self.found(spelling, Some(attached).filter(|_| !rest.is_empty()))
    }

    fn long(&mut self, text: &'a str) -> Result<Found<T>, BadWord> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        match self.spellings.iter().find(|s| s.long == name) {
            None => Err(self.bad("unknown option")),
            Some(spelling) if spelling.takes == Takes::Nothing && value.is_some() => {
                Err(self.bad("option does not take an argument"))
            }
            Some(spelling) => self.found(spelling, value),
        }
    }

    fn found(
        &mut self,
        spelling: &Spelling<T>,
        attached: Option<&str>,
    ) -> Result<Found<T>, BadWord> {
        let following = self.line.get(self.next).map(String::as_str);
        let argument = match (spelling.takes, attached) {
            (Takes::Nothing, _) => None,
            (_, Some(value)) => Some(value),
            (Takes::Argument, None) => match following {
                Some(word) => {
                    self.next += 1;
                    Some(word)
                }
                None => return Err(self.bad("missing argument")),
            },
            (Takes::Optional, None) => {
                let taken = following.filter(|word| !word.starts_with('-'));
                self.next += usize::from(taken.is_some());
                taken
            }
        };
        Ok(Found {
            option: spelling.option,
            argument: argument.map(str::to_owned),
            word: self.last_word(),
        })
    }

    fn bad(&self, what: &'static str) -> BadWord {
        BadWord {
            word: self.last_word(),
            what,
        }
    }

    fn last_word(&self) -> String {
        let last = self.next.checked_sub(1);
        last.and_then(|last| self.line.get(last))
            .cloned()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPELLINGS: &[Spelling<char>] = &[
        spelling('L', "list", Takes::Nothing),
        spelling('n', "numeric", Takes::Nothing),
        spelling('w', "weight", Takes::Argument),
        spelling('p', "persistent", Takes::Optional),
    ];

    const fn spelling(letter: char, long: &'static str, takes: Takes) -> Spelling<char> {
        Spelling {
            option: letter,
            short: Some(letter),
            long,
            takes,
        }
    }

    fn read(line: &str) -> (String, Vec<String>) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut reader = Words::new(SPELLINGS, &words);
        let mut seen = Vec::new();
        while let Some(found) = reader.option() {
            match found {
                Ok(found) => seen.push(match found.argument {
                    Some(argument) => format!("{}({argument})", found.option),
                    None => found.option.to_string(),
                }),
                Err(bad) => {
                    seen.push(format!("{}: {}", bad.word, bad.what));
                    break;
                }
            }
        }
        (seen.join(" "), reader.into_arguments())
    }

    #[test]
    fn options_are_read_as_popt_reads_them() {
        for (line, options) in [
            ("-Ln", "L n"),
            ("-L -n", "L n"),
            ("--list --numeric", "L n"),
            ("-w5", "w(5)"),
            ("-w=5", "w(5)"),
            ("-w 5", "w(5)"),
            ("-w -1", "w(-1)"),
            ("-nw 5", "n w(5)"),
            ("--weight=5", "w(5)"),
            ("--weight 5", "w(5)"),
            ("-p", "p"),
            ("-p -n", "p n"),
            ("-p 60", "p(60)"),
            ("-p60", "p(60)"),
            ("--persistent=60", "p(60)"),
            ("-w", "-w: missing argument"),
            ("--weigh 5", "--weigh: unknown option"),
            ("-Lx", "L -Lx: unknown option"),
            ("--list=5", "--list=5: option does not take an argument"),
        ] {
            assert_eq!(read(line).0, options, "{line}");
        }
    }

    #[test]
    fn other_words_are_kept_wherever_they_stand() {
        assert_eq!(
            read("a -L b -- -n"),
            ("L".to_owned(), vec!["a".into(), "b".into(), "-n".into()])
        );
    }
}
