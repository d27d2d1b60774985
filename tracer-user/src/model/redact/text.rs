//! Secrets that are told by what stands around them in any text, whatever the program.

use std::{ops::Range, sync::LazyLock};

use regex::bytes::{Regex, RegexBuilder};

use super::words;

/// How a name ends whose value is a secret.
pub(super) const NAME: &str = r#"(?:[a-z0-9_.-]*(?:password|passwd|passphrase|passcode|secret|token|credentials?|storepass|keypass|(?:api|access|secret|private|auth|encryption|account)[-_]?key)|(?:[a-z0-9_.-]*[-_.]|\b)pass|[a-z0-9_.-]*[-_.](?:pwd|pw))[0-9]*"#;

/// Without any of this no arguments hold a secret that is known here. Ordinary arguments are told by
/// this alone.
static SUSPICIOUS: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"pass|pwd|pw|secret|token|credential|key|authorization|://[^/]*@|://[^/]*:|github_pat|gh[pousr]_|xox|akia|asia|\b[sr]k[-_]|glpat|eyj|mysql|mariadb|mongo|redis-cli|ldap|smbclient|7z|curl|http|xh",
    )
});
/// `scheme://user:SECRET@host`; how much of it is the secret is told by the last `@`.
static URL: LazyLock<Regex> = LazyLock::new(|| regex(r#"://[^\s/?#:"'\x00]*:([^\s/?#"'\x00]*)"#));
/// A header; a scheme may stand before what is secret.
static HEADER: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"authorization\\*["']?\s*[:=]\s*\\*["']?(?:(?:bearer|basic|token|digest|negotiate|apikey)[\s\x00]+)?([^"'\x00]*[^"'\x00\\])"#,
    )
});
/// `"password": "SECRET"` of JSON, also within a string.
static MEMBER: LazyLock<Regex> =
    LazyLock::new(|| regex(&format!(r#"{NAME}\\*["']\s*:\s*\\*["']([^"'\x00]*)"#)));
/// Tokens that say what they are: GitHub's, Slack's, Amazon's, OpenAI's, GitLab's, JSON web tokens.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    RegexBuilder::new(
        r"\b(?:gh[pousr]_|github_pat_|xox[a-z]-|AKIA|ASIA|[sr]k[-_]|glpat-|eyJ)([A-Za-z0-9_.-]*)",
    )
    .unicode(false)
    .build()
    .expect("a regular expression")
});
/// The shortest of them has as many characters after its prefix, `AKIA` for one.
const TOKEN_LEN: usize = 16;

pub(super) fn regex(pattern: &str) -> Regex {
    RegexBuilder::new(pattern)
        .case_insensitive(true)
        .unicode(false)
        .build()
        .expect("a regular expression")
}

/// Where secrets are in `argv`. `cut`: there was more, so what its end holds may be a part.
pub(super) fn find(argv: &[u8], cut: bool, secrets: &mut Vec<Range<usize>>) {
    if !SUSPICIOUS.is_match(argv) {
        return;
    }
    let is_cut = |end: usize| cut && end == argv.len();
    for found in URL.captures_iter(argv).filter_map(|found| found.get(1)) {
        match found.as_bytes().iter().rposition(|byte| *byte == b'@') {
            Some(at) => secrets.push(found.start()..found.start() + at),
            None if is_cut(found.end()) => secrets.push(found.range()),
            None => {}
        }
    }
    for found in TOKEN.captures_iter(argv).filter_map(|found| found.get(1)) {
        if found.len() >= TOKEN_LEN || is_cut(found.end()) {
            secrets.push(found.range());
        }
    }
    for pattern in [&HEADER, &MEMBER] {
        let found = pattern.captures_iter(argv);
        secrets.extend(found.filter_map(|found| found.get(1).map(|group| group.range())));
    }
    words::find(argv, secrets);
    secrets.retain(|secret| !secret.is_empty());
}

#[cfg(test)]
mod tests {
    use super::{super::program, *};

    #[test]
    fn what_names_a_secret_is_suspicious() {
        for word in program::names().chain([
            "password",
            "passwd",
            "passphrase",
            "passcode",
            "secret",
            "token",
            "credential",
            "storepass",
            "keypass",
            "api_key",
            "accesskey",
            "x_pwd",
            "x_pw",
            "pass",
            "authorization",
            "ghp_",
            "github_pat_",
            "xoxb-",
            "AKIA",
            "ASIA",
            "sk-",
            "rk_",
            "glpat-",
            "eyJ",
            "x://a:b@c",
            "x://a:b",
        ]) {
            assert!(SUSPICIOUS.is_match(word.as_bytes()), "{word}");
        }
    }
}
