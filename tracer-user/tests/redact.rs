//! What is masked in arguments, and that nothing else is.

use std::time::Instant;

use lastbyte::model::redact::{Capture, Redactor};
use proptest::prelude::*;
use tracer_ebpf::{ARGV_LEN, Exec, Header, Kind};
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

/// A record of an exec with these arguments, as the kernel side writes it: cut when there is no room.
fn exec(words: &[&[u8]]) -> Exec {
    let mut argv = words.join(&0);
    argv.push(0);
    let mut record = Exec::new_zeroed();
    record.header = Header {
        time: 1,
        kind: Kind::Exec as u16,
        size: size_of::<Exec>() as u16,
        cpu: 0,
    };
    record.comm[..4].copy_from_slice(b"prog");
    record.argv_full = argv.len() as u32;
    let kept = argv.len().min(ARGV_LEN);
    record.argv_len = kept as u32;
    record.argv[..kept].copy_from_slice(&argv[..kept]);
    record
}

fn redacted(redactor: &mut Redactor, record: &Exec) -> Exec {
    let out = redactor.apply(record.as_bytes());
    let out = Exec::read_from_bytes(out).expect("a record of the same kind");
    let len = out.argv_len as usize;
    assert!(len <= ARGV_LEN, "{len}");
    assert!(out.argv[len..].iter().all(|byte| *byte == 0), "no rest");
    assert!(out.argv_full >= out.argv_len);
    if record.argv_full == record.argv_len {
        let is_cut = out.argv_full > out.argv_len;
        let last = out.argv[..len].last();
        assert!(is_cut || matches!(last, Some(0) | None), "{out:?}");
        assert!(!is_cut || len == ARGV_LEN, "{out:?}");
    }
    let unmasked = Exec {
        argv: record.argv,
        argv_len: record.argv_len,
        argv_full: record.argv_full,
        ..out
    };
    assert_eq!(unmasked.as_bytes(), record.as_bytes());
    out
}

fn default() -> Redactor {
    Redactor::default()
}

/// `mysql -psecret db` by its words; what comes out, joined by spaces.
fn shown(line: &[&str]) -> String {
    let words: Vec<&[u8]> = line.iter().map(|word| word.as_bytes()).collect();
    let out = redacted(&mut default(), &exec(&words));
    String::from_utf8_lossy(&out.argv[..out.argv_len as usize])
        .trim_end_matches('\0')
        .replace('\0', " ")
}

#[test]
fn secrets_are_masked_where_programs_take_them() {
    for (words, expected) in [
        (
            &["app", "--password=hunter2", "x"][..],
            "app --password=*** x",
        ),
        (
            &["app", "--password", "hunter2", "x"],
            "app --password *** x",
        ),
        (
            &["app", "--db-password", "-dash", "x"],
            "app --db-password *** x",
        ),
        (&["app", "--token", "--verbose", "x"], "app --token *** x"),
        (&["app", "--token", "--secret", "x"], "app --token *** ***"),
        (&["java", "-storepass", "changeit"], "java -storepass ***"),
        (
            &["openssl", "rsa", "-passin", "pass:abc"],
            "openssl rsa -passin pass:***",
        ),
        (
            &["env", "PGPASSWORD=a b c", "psql"],
            "env PGPASSWORD=*** psql",
        ),
        (
            &[
                "bash",
                "-c",
                "mysqldump -phunter2 --password=hunter2 2>/dev/null; true",
            ],
            "bash -c mysqldump -p*** --password=*** 2>/dev/null; true",
        ),
        (
            &["mysql", "-uroot", "-phunter2", "db"],
            "mysql -uroot -p*** db",
        ),
        (
            &["docker", "exec", "d", "/usr/bin/mysqldump", "-px"],
            "docker exec d /usr/bin/mysqldump -p***",
        ),
        (
            &["sshpass", "-p", "x y", "ssh", "-p22", "h"],
            "sshpass -p *** ssh -p22 h",
        ),
        (
            &["sshpass", "-phunter2", "ssh", "-p", "22", "h"],
            "sshpass -p*** ssh -p 22 h",
        ),
        (
            &["sshpass", "-p", "x", "ssh", "h", "mysql", "-py"],
            "sshpass -p *** ssh h mysql -p***",
        ),
        (
            &["curl", "-u", "bob:hunter2", "http://h/"],
            "curl -u bob:*** http://h/",
        ),
        (
            &["curl", "-sSubob:hunter2", "http://h/"],
            "curl -sSubob:*** http://h/",
        ),
        (
            &["curl", "--user=bob:a:b", "http://h/"],
            "curl --user=bob:*** http://h/",
        ),
        (
            &["curl", "-H", "Authorization: Bearer abc.def", "u"],
            "curl -H Authorization: Bearer *** u",
        ),
        (
            &["curl", "-HProxy-Authorization: Basic YTpi"],
            "curl -HProxy-Authorization: Basic ***",
        ),
        (
            &["curl", "-H", "X-Api-Key: abc def"],
            "curl -H X-Api-Key:***",
        ),
        (
            &[
                "curl",
                "-d",
                r#"{"user": "bob", "password": "x y", "n": 1}"#,
            ],
            r#"curl -d {"user": "bob", "password": "***", "n": 1}"#,
        ),
        (
            &["curl", "http://h/?token=abc&page=2"],
            "curl http://h/?token=***&page=2",
        ),
        (
            &["psql", "postgres://bob:hunter2@db:5432/x"],
            "psql postgres://bob:***@db:5432/x",
        ),
        (
            &[
                "git",
                "clone",
                "https://ghp_abcdefghijklmnop0123@github.com/x",
            ],
            "git clone https://ghp_***@github.com/x",
        ),
        (&["x", "AKIAIOSFODNN7EXAMPLE"], "x AKIA***"),
        (&["x", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.c2ln"], "x eyJ***"),
        (
            &["redis-cli", "-h", "r", "-a", "x", "ping"],
            "redis-cli -h r -a *** ping",
        ),
        (
            &[
                "kubectl",
                "create",
                "secret",
                "generic",
                "s",
                "--from-literal=password=a&b",
            ],
            "kubectl create secret generic s --from-literal=password=***",
        ),
        (
            &["bash", "-c", "mysqldump -phunter2 db | gzip >x; ssh -p22 h"],
            "bash -c mysqldump -p*** db | gzip >x; ssh -p22 h",
        ),
        (
            &[
                "bash",
                "-c",
                "PGPASSWORD='a b' psql -h db && app --token \"x y\" --go",
            ],
            "bash -c PGPASSWORD=*** psql -h db && app --token *** --go",
        ),
        (
            &["bash", "-c", r#"ssh h 'bash -c "mysql -p\"x y\" db"' now"#],
            r#"bash -c ssh h 'bash -c "mysql -p*** db"' now"#,
        ),
        (
            &["bash", "-c", "app --password='never closed"],
            "bash -c app --password=***",
        ),
    ] {
        assert_eq!(shown(words), expected, "{words:?}");
    }
}

const ORDINARY: &[&[&str]] = &[
    &["ssh", "-p22", "-p", "22", "host", "mkdir", "-p", "/a/b"],
    &["mysql", "-uroot", "-p", "-P3306", "db"],
    &["docker", "login", "--password-stdin", "-u", "bob"],
    &[
        "docker",
        "run",
        "--user",
        "1000:1000",
        "-p",
        "80:80",
        "nginx",
    ],
    &["ansible-playbook", "--ask-become-pass", "site.yml"],
    &["psql", "--no-password", "db"],
    &["env", "PWD=/home/bob", "OLDPWD=/tmp", "PATH=/bin", "make"],
    &[
        "bash",
        "-c",
        "for key in a b; do echo $key; done | sort -k2 -t: >keys.txt",
    ],
    &[
        "curl",
        "-sSf",
        "-o",
        "u",
        "-A",
        "x:y",
        "http://host:8080/a@b?x=1&y=2",
    ],
    &["kubectl", "get", "secret", "db-token", "-o", "yaml"],
    &[
        "rsync",
        "--server",
        "-vlogDtpre.iLsfxCIvu",
        ".",
        "/srv/data",
    ],
    &["sshd: alice [priv]"],
    &["git", "commit", "-m", "Fix the password prompt"],
    &[
        "tee",
        "task-list-of-the-whole-team.txt",
        "disk-usage-of-the-whole-team",
    ],
    &[
        "java",
        "-jar",
        "compass.jar",
        "--bypass=all",
        "--tokenizer=fast",
    ],
];

#[test]
fn ordinary_arguments_stay_as_they_are() {
    for words in ORDINARY {
        assert_eq!(shown(words), words.join(" "));
    }
}

#[test]
fn full_keeps_all_and_comm_nothing() {
    let record = exec(&[b"mysql", b"-phunter2"]);
    let mut full = Redactor::new(Capture::Full, []).unwrap();
    assert_eq!(full.apply(record.as_bytes()), record.as_bytes());
    let mut comm = Redactor::new(Capture::Comm, []).unwrap();
    let out = redacted(&mut comm, &record);
    assert_eq!((out.argv_len, out.argv_full), (0, 0));
    assert_eq!(out.comm, record.comm);
}

#[test]
fn other_records_pass_untouched() {
    let mut record = exec(&[b"mysql", b"-phunter2"]);
    record.header.kind = Kind::Tick as u16;
    for bytes in [record.as_bytes(), &record.as_bytes()[..20], b"", b"short"] {
        assert_eq!(default().apply(bytes), bytes);
    }
}

#[test]
fn a_users_pattern_masks_its_group_or_all_of_it() {
    let mut redactor =
        Redactor::new(Capture::Redacted, ["(?i)--pin\0([^\0]*)", "K[0-9]+"]).unwrap();
    let out = redacted(&mut redactor, &exec(&[b"app", b"--PIN", b"1234", b"K77x"]));
    assert_eq!(
        &out.argv[..out.argv_len as usize],
        b"app\0--PIN\0***\0***x\0"
    );
    let error = Redactor::new(Capture::Redacted, ["ok", "("]).unwrap_err();
    assert!(error.to_string().contains("unclosed group"), "{error}");
}

#[test]
fn a_pattern_over_several_arguments_keeps_them_apart() {
    let mut redactor = Redactor::new(Capture::Redacted, ["(?s)b.*d"]).unwrap();
    let out = redacted(&mut redactor, &exec(&[b"ab", b"", b"c", b"de"]));
    assert_eq!(&out.argv[..out.argv_len as usize], b"a***\0\0***\0***e\0");
}

#[test]
fn a_secret_that_is_cut_is_a_secret() {
    for before in [
        "--password=",
        "--password\0",
        "mysql\0-p",
        "bash\0-c\0mysql -p'",
        "bash\0-c\0app --password \"",
        "curl\0-u\0bob:",
        "curl\0-H\0Authorization: Bearer ",
        "postgres://bob:",
        "ghp_",
        "AKIA",
        "eyJ",
    ] {
        // Six bytes of it are captured.
        let filler = "f".repeat(ARGV_LEN - before.len() - 7);
        let words = format!("{filler}\0{before}hunter2");
        let words: Vec<&[u8]> = words.as_bytes().split(|byte| *byte == 0).collect();
        let record = exec(&words);
        assert!(record.argv_full > record.argv_len);
        let out = redacted(&mut default(), &record);
        assert!(out.argv_full > out.argv_len, "still cut");
        assert!(!contains(&out, b"hun"), "{before}");
    }
}

fn contains(record: &Exec, needle: &[u8]) -> bool {
    record.argv.windows(needle.len()).any(|at| at == needle)
}

/// How a secret `S` can be given, and what it may look like there.
const FORMS: &[(&str, Shape)] = &[
    ("app\0--password=S", Shape::Word),
    ("app\0--password\0S\0--more", Shape::Word),
    ("app\0--auth-token\0S", Shape::Word),
    ("app\0--client_secret=S\0x", Shape::Word),
    ("app\0--api-key=S", Shape::Word),
    ("app\0--access-key\0S", Shape::Word),
    ("app\0--passphrase\0S", Shape::Word),
    ("env\0DB_PASSWORD=S\0app", Shape::Word),
    ("mysql\0-pS\0db", Shape::Word),
    ("sudo\0mariadb-dump\0-u\0root\0-pS", Shape::Word),
    ("sshpass\0-pS\0ssh\0h", Shape::Word),
    ("sshpass\0-p\0S\0ssh\0h", Shape::Word),
    ("curl\0-u\0bob:S\0http://h", Shape::Word),
    ("curl\0--user\0bob:S", Shape::Word),
    ("curl\0-H\0X-Auth-Token: S", Shape::Word),
    ("bash\0-c\0mysqldump -pS db | gzip", Shape::Quoted),
    ("bash\0-c\0PGPASSWORD=S psql", Shape::Quoted),
    ("sh\0-c\0app --password S; echo done", Shape::Quoted),
    ("sh\0-c\0cd /x && app --token=S", Shape::Quoted),
    ("ssh\0h\0curl -u bob:S http://h", Shape::Quoted),
    ("curl\0-H\0Authorization: Bearer S", Shape::Url),
    ("bash\0-c\0curl -H 'Authorization: Basic S' u", Shape::Url),
    ("wget\0ftp://bob:S@h/x", Shape::Url),
    ("bash\0-c\0git clone https://bob:S@h/x", Shape::Url),
    ("curl\0http://h/?api_key=S&x=1", Shape::Url),
    ("echo\0ghp_S", Shape::Token),
    ("bash\0-c\0echo glpat-S|cat", Shape::Token),
];

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Any bytes but NUL.
    Word,
    /// The same, in quotes.
    Quoted,
    /// What needs no escape in a URL.
    Url,
    /// Letters and digits, as many as a token has.
    Token,
}

/// As a shell would be given it: in single quotes, those in it apart.
fn quoted(secret: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for byte in secret {
        match byte {
            b'\'' => out.extend(br"'\''"),
            _ => out.push(*byte),
        }
    }
    out.push(b'\'');
    out
}

fn given(form: &str, secret: &[u8]) -> Exec {
    // Names have capitals of their own.
    let is_capital = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_uppercase);
    let bytes = form.as_bytes();
    let alone =
        |at: &usize| !is_capital(bytes.get(at + 1)) && !is_capital(bytes.get(at.wrapping_sub(1)));
    let place = form.match_indices('S').map(|(at, _)| at).find(alone);
    let place = place.expect("a place for the secret");
    let mut argv = form.as_bytes()[..place].to_vec();
    argv.extend(secret);
    argv.extend(&form.as_bytes()[place + 1..]);
    let words: Vec<&[u8]> = argv.split(|byte| *byte == 0).collect();
    exec(&words)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_secret_comes_through(
        bytes in prop::collection::vec(1_u8.., 6..40),
        url in "[A-Za-z0-9._~%+-]{6,40}",
        token in "[A-Za-z0-9]{16,40}",
    ) {
        let mut redactor = default();
        for (form, shape) in FORMS {
            let (secret, put) = match shape {
                Shape::Word => (&bytes[..], bytes.clone()),
                Shape::Quoted => (&bytes[..], quoted(&bytes)),
                Shape::Url => (url.as_bytes(), url.clone().into_bytes()),
                Shape::Token => (token.as_bytes(), token.clone().into_bytes()),
            };
            let out = redacted(&mut redactor, &given(form, &put));
            // Four bytes together would tell something of it; what it has in common with the
            // form does not.
            let told = secret.windows(4).find(|part| {
                contains(&out, part) && !form.as_bytes().windows(4).any(|own| own == *part)
                    && !part.contains(&b'*')
            });
            prop_assert!(told.is_none(), "{form:?} {secret:?}: {:?}", String::from_utf8_lossy(&out.argv));
        }
    }

    #[test]
    fn any_bytes_are_taken(
        argv in prop::collection::vec(any::<u8>(), ARGV_LEN),
        len in any::<u32>(),
        full in any::<u32>(),
    ) {
        let mut record = exec(&[b"x"]);
        record.argv.copy_from_slice(&argv);
        record.argv_len = len;
        record.argv_full = full;
        let mut redactor = default();
        let out = redactor.apply(record.as_bytes());
        prop_assert_eq!(out.len(), size_of::<Exec>());
    }

    #[test]
    fn plain_words_stay(words in prop::collection::vec("[a-f0-9/=,:-]{0,12}", 1..12)) {
        let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let record = exec(&bytes);
        let mut redactor = default();
        prop_assert_eq!(redactor.apply(record.as_bytes()), record.as_bytes());
    }
}

/// Each exec of a traced session goes through it.
#[test]
fn it_costs_little() {
    let mut redactor = default();
    let long = "for f in /srv/data/*.csv; do gzip -9 \"$f\"; done; ".repeat(10);
    for (what, words, limit_us) in [
        ("ordinary", vec!["bash", "-c", &long], 200.0),
        (
            "suspicious",
            vec!["bash", "-c", "curl -u bob:x http://h/ | mysql -px db"],
            2000.0,
        ),
        (
            "hostile",
            vec!["bash", "-c", &"'\"\\' -c ".repeat(60)],
            20000.0,
        ),
        ("names", vec!["x", &"password-token-".repeat(33)], 20000.0),
    ] {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let record = exec(&words);
        redactor.apply(record.as_bytes());
        // The quickest: what else the machine does is no cost of ours.
        let each = (0..200).map(|_| {
            let begun = Instant::now();
            std::hint::black_box(redactor.apply(record.as_bytes()));
            begun.elapsed()
        });
        let each = each.min().unwrap_or_default().as_secs_f64() * 1e6;
        println!("{what}: {each:.2} µs");
        assert!(each < limit_us, "{what}: {each} µs");
    }
}
