//! Chunks: the compressed records of a session, as the database has them.

use std::io;

use rusqlite::{Transaction, params};
use zstd::bulk::Compressor;

use super::Error;

/// How hard records are compressed (zstd level).
const LEVEL: i32 = 3;
/// Most bytes of uncompressed records in one chunk.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// A compressor whose output has a checksum.
pub(super) fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

/// Writes a chunk. Returns its compressed size, bytes.
pub(super) fn write(
    tx: &Transaction<'_>,
    session: i64,
    seq: i64,
    records: &[u8],
    compressor: &mut Compressor<'static>,
) -> Result<usize, Error> {
    let packed = compressor
        .compress(records)
        .map_err(|error| Error::Damaged(format!("cannot compress records: {error}")))?;
    tx.execute(
        "INSERT INTO chunk (session, seq, raw, records) VALUES (?, ?, ?, ?)",
        params![session, seq, records.len() as i64, packed],
    )?;
    Ok(packed.len())
}

/// Merges the chunks of a session into as few as possible.
pub(super) fn merge(
    tx: &Transaction<'_>,
    session: i64,
    compressor: &mut Compressor<'static>,
) -> Result<(), Error> {
    let mut query = tx.prepare("SELECT seq, raw FROM chunk WHERE session = ? ORDER BY seq")?;
    let chunks = query.query_map([session], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let chunks: Vec<(i64, i64)> = chunks.collect::<Result<_, _>>()?;
    let mut groups: Vec<(usize, Vec<i64>)> = Vec::new();
    for (seq, raw) in chunks {
        let raw = usize::try_from(raw).unwrap_or(MAX_BYTES);
        match groups.last_mut() {
            Some((bytes, group)) if *bytes + raw <= MAX_BYTES => {
                *bytes += raw;
                group.push(seq);
            }
            _ => groups.push((raw, vec![seq])),
        }
    }
    for (bytes, group) in groups.into_iter().filter(|(_, group)| group.len() > 1) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let mut records = Vec::with_capacity(bytes);
        let mut query = tx.prepare(
            "SELECT raw, records FROM chunk WHERE session = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        )?;
        let mut rows = query.query(params![session, first, last])?;
        while let Some(row) = rows.next()? {
            records.extend(unpack(
                row.get(0)?,
                row.get_ref(1)?.as_blob().unwrap_or_default(),
            )?);
        }
        let within = params![session, first, last];
        tx.execute(
            "DELETE FROM chunk WHERE session = ? AND seq BETWEEN ? AND ?",
            within,
        )?;
        write(tx, session, *first, &records, compressor)?;
    }
    tx.execute(
        "UPDATE session SET bytes = (SELECT coalesce(sum(length(records)), 0) FROM chunk WHERE session = ?1)
         WHERE key = ?1",
        [session],
    )?;
    Ok(())
}

/// Decompresses the records of a chunk; `raw` is their size, bytes.
pub(super) fn unpack(raw: i64, packed: &[u8]) -> Result<Vec<u8>, Error> {
    let damaged = |what: String| Error::Damaged(format!("a chunk of records: {what}"));
    let raw = usize::try_from(raw).map_err(|error| damaged(error.to_string()))?;
    let records =
        zstd::bulk::decompress(packed, raw).map_err(|error| damaged(error.to_string()))?;
    match records.len() == raw {
        true => Ok(records),
        false => Err(damaged(format!("{} of {raw} bytes", records.len()))),
    }
}
