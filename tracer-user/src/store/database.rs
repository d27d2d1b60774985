//! The file: how it is opened, what is in it, and what is done about one that is not as it should be.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// Its name in the state directory.
pub(super) const FILE: &str = "lastbyte.db";
const LOCK: &str = "lastbyte.lock";
/// Marks a database as ours: `lbyt`.
const APPLICATION: i32 = 0x6c62_7974;
/// Changes whenever the tables do.
const SCHEMA: i32 = 1;
/// Pages of the write-ahead log after which SQLite copies them into the database.
const CHECKPOINT_PAGES: u32 = 256;

const TABLES: &str = "
CREATE TABLE run (
    key INTEGER PRIMARY KEY,
    boot TEXT NOT NULL,         -- /proc/sys/kernel/random/boot_id
    started INTEGER NOT NULL,   -- wall clock, ns; so is every other time
    wall_offset INTEGER NOT NULL,
    grace INTEGER NOT NULL,
    host TEXT NOT NULL,
    kernel TEXT NOT NULL,
    backend TEXT NOT NULL
) STRICT;
CREATE TABLE session (
    key INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,       -- that it was first seen in
    abi INTEGER NOT NULL,       -- of its records
    id INTEGER NOT NULL,        -- unique within a boot
    text TEXT NOT NULL,         -- the same, as it is shown
    pid INTEGER NOT NULL,
    state TEXT NOT NULL,        -- open, closed, interrupted
    opened INTEGER NOT NULL,
    closed INTEGER,
    user TEXT,
    uid INTEGER,
    peer TEXT,
    server TEXT NOT NULL,
    command TEXT,
    verdict TEXT,
    gaps TEXT NOT NULL DEFAULT '',
    lost INTEGER NOT NULL,      -- records that are missing
    findings INTEGER NOT NULL,  -- near misses apart
    bytes INTEGER NOT NULL,     -- of its chunks
    view TEXT,                  -- JSON of model::SessionView, until it is closed
    told TEXT                   -- JSON of model::Closed, from then on
) STRICT;
CREATE INDEX session_id ON session (id);
CREATE INDEX session_pid ON session (pid);
CREATE INDEX session_opened ON session (opened);
CREATE INDEX session_user ON session (user, opened);
CREATE INDEX session_peer ON session (peer, opened);
CREATE INDEX session_verdict ON session (verdict, opened);
CREATE INDEX session_open ON session (key) WHERE state = 'open';
CREATE INDEX session_clean ON session (closed) WHERE state <> 'open' AND findings = 0;
CREATE INDEX session_large ON session (closed) WHERE state <> 'open' AND findings > 0 AND bytes > 0;
CREATE INDEX session_small ON session (closed) WHERE state <> 'open' AND findings > 0 AND bytes = 0;
CREATE TABLE finding (
    key INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    stream TEXT,
    cause TEXT,
    bytes INTEGER NOT NULL,
    told TEXT NOT NULL          -- JSON of model::Finding
) STRICT;
CREATE INDEX finding_session ON finding (session);
CREATE INDEX finding_time ON finding (time);
CREATE TABLE chunk (
    session INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    raw INTEGER NOT NULL,       -- bytes of the records
    records BLOB NOT NULL,      -- the same, as one zstd frame
    PRIMARY KEY (session, seq)
) STRICT;
CREATE TABLE kept (             -- one row: how far everything is kept
    key INTEGER PRIMARY KEY CHECK (key = 0),
    boot TEXT NOT NULL,
    time INTEGER NOT NULL,
    progress INTEGER NOT NULL
) STRICT;
";

/// Why nothing can be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state directory, or a file in it, cannot be had.
    #[error(
        "{path}: {source}; let the state directory belong to the user lastbyte runs as, or name another"
    )]
    Place {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another recorder has it.
    #[error("{0}: in use by another lastbyte; end that one, or name another state directory")]
    InUse(PathBuf),
    /// Something else is there, which is left alone.
    #[error("{0}: not a database of lastbyte's; move it away, or name another state directory")]
    Foreign(PathBuf),
    /// A later version of lastbyte wrote it.
    #[error(
        "{path}: has schema {found}, this lastbyte knows {SCHEMA}: use the version that made it, or move it away"
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its schema.
        found: i32,
    },
    /// A record version that this lastbyte does not know.
    #[error("the records of this session have version {found}, this lastbyte reads {known}", known = tracer_ebpf::ABI_VERSION)]
    OtherRecords {
        /// Theirs.
        found: i64,
    },
    /// What was written there is not what is read.
    #[error("{0}: damaged")]
    Damaged(String),
    /// SQLite failed.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl Error {
    /// Whether the database is no longer what was written.
    pub(super) fn is_corruption(&self) -> bool {
        let Self::Sqlite(error) = self else {
            return matches!(self, Self::Damaged(_));
        };
        matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        )
    }
}

/// An open database that nobody else writes.
#[derive(Debug)]
pub(super) struct Database {
    pub connection: Connection,
    pub path: PathBuf,
    /// Where a damaged one was set aside.
    pub set_aside: Option<PathBuf>,
    _lock: Lock,
}

/// Held while somebody writes.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "closing it gives the lock up")] File);

/// What is there before it is opened.
enum There {
    Nothing,
    Ours,
}

impl Database {
    /// Opens the database in the state directory, or begins one.
    ///
    /// # Errors
    /// [`Error::Place`], [`Error::InUse`], [`Error::Foreign`], [`Error::Newer`], [`Error::Sqlite`].
    pub fn open(directory: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(place(directory))?;
        let lock = lock(&directory.join(LOCK))?;
        let path = directory.join(FILE);
        let mut set_aside = None;
        if let There::Ours = inspect(&path)? {
            match check(&path) {
                Err(error) if error.is_corruption() => set_aside = Some(self::set_aside(&path)?),
                other => other?,
            }
        }
        let connection = connect(&path)?;
        Ok(Self {
            connection,
            path,
            set_aside,
            _lock: lock,
        })
    }

    /// Sets the damaged database aside and begins a new one.
    ///
    /// # Errors
    /// [`Error::Place`], [`Error::Sqlite`].
    pub fn begin_anew(&mut self) -> Result<(), Error> {
        // Two connections to one file would be one too many.
        let closed = std::mem::replace(&mut self.connection, Connection::open_in_memory()?);
        drop(closed);
        self.set_aside = Some(set_aside(&self.path)?);
        self.connection = connect(&self.path)?;
        Ok(())
    }

    /// Bytes on disk.
    pub fn size(&self) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        size(&self.path) + size(&beside(&self.path, "-wal"))
    }
}

/// Opens the database for reading.
///
/// # Errors
/// [`Error::Place`], [`Error::Foreign`], [`Error::Newer`], [`Error::Sqlite`].
pub(super) fn open_to_read(directory: &Path) -> Result<Connection, Error> {
    let path = directory.join(FILE);
    fs::metadata(&path).map_err(place(&path))?;
    let connection = Connection::open_with_flags(
        &path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(Duration::from_secs(2))?;
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let application =
        number("application_id").map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Error::Foreign(path.clone()),
            _ => error.into(),
        })?;
    match (application, number("user_version")?) {
        (APPLICATION, SCHEMA) => Ok(connection),
        (APPLICATION, found) if found > SCHEMA => Err(Error::Newer { path, found }),
        _ => Err(Error::Foreign(path)),
    }
}

fn place(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    |source| Error::Place { path, source }
}

fn lock(path: &Path) -> Result<Lock, Error> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(place(path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(place(path)(error)),
    }
}

/// Tells whose the file is without SQLite, which would change a foreign one by opening it: it replays
/// journals. The layout of the head is fixed (<https://www.sqlite.org/fileformat2.html#the_database_header>).
fn inspect(path: &Path) -> Result<There, Error> {
    let mut head = [0; 100];
    let read = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(There::Nothing),
        file => file.and_then(|mut file| {
            // A directory opens, and then cannot be read.
            let len = file.metadata()?.len();
            file.read(&mut head).map(|read| (read, len))
        }),
    };
    let number = |at: usize| {
        head[at..]
            .first_chunk()
            .map_or(0, |it| i32::from_be_bytes(*it))
    };
    match read.map_err(place(path))? {
        // Begun, and cut off before anything was in it.
        (0, 0) => Ok(There::Nothing),
        (100, _) if head.starts_with(b"SQLite format 3\0") && number(68) == APPLICATION => {
            match number(60) {
                found if found > SCHEMA => Err(Error::Newer {
                    path: path.to_owned(),
                    found,
                }),
                _ => Ok(There::Ours),
            }
        }
        _ => Err(Error::Foreign(path.to_owned())),
    }
}

/// Looks whether the database is as it was written.
fn check(path: &Path) -> Result<(), Error> {
    let connection = Connection::open(path)?;
    let answer: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    match answer.as_str() {
        "ok" => Ok(()),
        _ => Err(Error::Damaged(answer)),
    }
}

/// Gives a damaged database, and what belongs to it, a name of its own. It may be all there is.
fn set_aside(path: &Path) -> Result<PathBuf, Error> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    let name = |n: u32| match n {
        0 => beside(path, &format!(".corrupt-{now}")),
        n => beside(path, &format!(".corrupt-{now}-{n}")),
    };
    let aside = (0..).map(name).find(|name| !name.exists());
    let aside = aside.unwrap_or_else(|| name(0));
    for suffix in ["-wal", "-shm", "-journal"] {
        match fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(place(path)(error));
            }
            _ => {}
        }
    }
    fs::rename(path, &aside).map_err(place(path))?;
    Ok(aside)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn connect(path: &Path) -> Result<Connection, Error> {
    // SQLite gives its other files the mode of this one.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    drop(file.map_err(place(path))?);
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    let schema: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if schema == 0 {
        connection.execute_batch(&format!(
            "PRAGMA auto_vacuum = INCREMENTAL;
             BEGIN IMMEDIATE;
             PRAGMA application_id = {APPLICATION};
             {TABLES}
             PRAGMA user_version = {SCHEMA};
             COMMIT;"
        ))?;
    }
    // A commit is on the disk when it is done: what was announced outlives a power cut.
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};
         PRAGMA journal_size_limit = 0;
         PRAGMA temp_store = MEMORY;"
    ))?;
    Ok(connection)
}
