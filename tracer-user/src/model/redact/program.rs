//! Programs that take a secret by a short option.

/// Whether the secret is all of an option's value, or what follows a separator in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Whole,
    After(u8),
}

/// How a program takes a secret.
#[derive(Debug)]
pub(super) struct Taking {
    /// Letter of its short option.
    pub letter: u8,
    /// Its long option, if that is not told by its name.
    pub long: Option<&'static str>,
    /// `-pSECRET`.
    pub attached: bool,
    /// `-p SECRET`.
    pub apart: bool,
    /// What the option's value is.
    pub value: Value,
    /// Letters of options without a value, which may stand before it in the same word.
    pub flags: &'static [u8],
    /// Only as the program's first arguments: what follows is another command.
    pub leading: bool,
}

const PLAIN: Taking = Taking {
    letter: b'p',
    long: None,
    attached: true,
    apart: true,
    value: Value::Whole,
    flags: b"",
    leading: false,
};
/// `-p` alone makes them ask.
const MYSQL: &[Taking] = &[Taking {
    apart: false,
    ..PLAIN
}];
const SSHPASS: &[Taking] = &[Taking {
    flags: b"ev",
    leading: true,
    ..PLAIN
}];
const MONGO: &[Taking] = &[PLAIN];
const REDIS: &[Taking] = &[Taking {
    letter: b'a',
    attached: false,
    ..PLAIN
}];
const LDAP: &[Taking] = &[Taking {
    letter: b'w',
    flags: b"xvnAzZ",
    ..PLAIN
}];
const SEVEN_ZIP: &[Taking] = &[Taking {
    apart: false,
    ..PLAIN
}];
/// curl's options without a value.
const CURL_FLAGS: &[u8] = b"#0123456aBfgGiIjJklLnNOpqRsSvVZ";
const CURL: &[Taking] = &[
    Taking {
        letter: b'u',
        long: Some("--user"),
        value: Value::After(b':'),
        flags: CURL_FLAGS,
        ..PLAIN
    },
    Taking {
        letter: b'U',
        long: Some("--proxy-user"),
        value: Value::After(b':'),
        flags: CURL_FLAGS,
        ..PLAIN
    },
];
const HTTPIE: &[Taking] = &[Taking {
    letter: b'a',
    long: Some("--auth"),
    value: Value::After(b':'),
    ..PLAIN
}];
const SMB: &[Taking] = &[Taking {
    letter: b'U',
    long: Some("--user"),
    value: Value::After(b'%'),
    ..PLAIN
}];

/// By the name of the program's file.
const PROGRAMS: &[(&str, &[Taking])] = &[
    ("7z", SEVEN_ZIP),
    ("7za", SEVEN_ZIP),
    ("7zr", SEVEN_ZIP),
    ("curl", CURL),
    ("http", HTTPIE),
    ("https", HTTPIE),
    ("ldapadd", LDAP),
    ("ldapdelete", LDAP),
    ("ldapmodify", LDAP),
    ("ldappasswd", LDAP),
    ("ldapsearch", LDAP),
    ("ldapwhoami", LDAP),
    ("mariadb", MYSQL),
    ("mariadb-admin", MYSQL),
    ("mariadb-backup", MYSQL),
    ("mariadb-check", MYSQL),
    ("mariadb-dump", MYSQL),
    ("mariadb-import", MYSQL),
    ("mariadb-show", MYSQL),
    ("mongo", MONGO),
    ("mongodump", MONGO),
    ("mongoexport", MONGO),
    ("mongoimport", MONGO),
    ("mongorestore", MONGO),
    ("mongosh", MONGO),
    ("mysql", MYSQL),
    ("mysqladmin", MYSQL),
    ("mysqlbinlog", MYSQL),
    ("mysqlcheck", MYSQL),
    ("mysqldump", MYSQL),
    ("mysqlimport", MYSQL),
    ("mysqlpump", MYSQL),
    ("mysqlsh", MYSQL),
    ("mysqlshow", MYSQL),
    ("mysqlslap", MYSQL),
    ("redis-cli", REDIS),
    ("smbclient", SMB),
    ("sshpass", SSHPASS),
    ("xh", HTTPIE),
];

/// How the program that `word` names takes secrets, if it does.
pub(super) fn named(word: &[u8]) -> Option<&'static [Taking]> {
    let name = word.rsplit(|byte| *byte == b'/').next()?;
    PROGRAMS
        .iter()
        .find(|(program, _)| program.as_bytes() == name)
        .map(|(_, takings)| *takings)
}

/// The names of all of them.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|(name, _)| *name)
}

impl Taking {
    /// Where the value begins in `word`, if that is this option; the word's length when the value is
    /// the next word.
    pub fn value_in(&self, word: &[u8]) -> Option<usize> {
        let at = self.long_in(word).or_else(|| self.short_in(word))?;
        let wanted = if at == word.len() {
            self.apart
        } else {
            self.attached
        };
        wanted.then_some(at)
    }

    fn long_in(&self, word: &[u8]) -> Option<usize> {
        let long = self.long?;
        match word.strip_prefix(long.as_bytes())? {
            [] => Some(word.len()),
            [b'=', ..] => Some(long.len() + 1),
            _ => None,
        }
    }

    fn short_in(&self, word: &[u8]) -> Option<usize> {
        let letters = word.strip_prefix(b"-")?;
        let at = letters
            .iter()
            .position(|letter| !self.flags.contains(letter))?;
        (letters[at] == self.letter).then_some(at + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_found_in_a_word_of_several() {
        let user = &CURL[0];
        assert_eq!(user.value_in(b"-u"), Some(2));
        assert_eq!(user.value_in(b"-sSuadmin:x"), Some(4));
        assert_eq!(user.value_in(b"--user=admin:x"), Some(7));
        assert_eq!(user.value_in(b"--user"), Some(6));
        assert_eq!(user.value_in(b"-ou"), None, "a file called u");
        assert_eq!(user.value_in(b"--user-agent"), None);
        assert_eq!(MYSQL[0].value_in(b"-p"), None, "asks");
        assert_eq!(MYSQL[0].value_in(b"-P3306"), None);
    }

    #[test]
    fn a_program_is_known_by_its_file() {
        assert!(named(b"/usr/bin/mysqldump").is_some());
        assert!(named(b"mysql.d").is_none());
        assert!(named(b"").is_none());
    }
}
