//! Values of keys: read from TOML and written as TOML.

use std::{path::PathBuf, time::Duration};

use toml::de::DeValue;

use super::{Rate, units};
use crate::probe::Backend;

/// What a time must look like.
pub(super) const TIME: &str = "a time such as \"500ms\", \"1m30s\" or \"30d\"";
/// What a size must look like.
pub(super) const SIZE: &str = "a size such as \"1 GiB\" or a number of bytes";
/// Most bytes of an executable's name that the eBPF programs compare.
const SERVER_LEN: usize = tracer_ebpf::EXE_LEN - 1;

pub(super) fn set<T>(to: &mut T, value: Result<T, String>) -> Result<(), String> {
    *to = value?;
    Ok(())
}

/// The value that was found instead of the expected one.
pub(super) fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("found {text:?}"),
        DeValue::Integer(number) => format!("found {number}"),
        DeValue::Float(number) => format!("found {number}"),
        DeValue::Boolean(value) => format!("found {value}"),
        DeValue::Array(_) => "found another list".to_owned(),
        other => format!("found a {}", other.type_str()),
    }
}

pub(super) fn from_text<T>(
    value: &DeValue<'_>,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    let text = value.as_str().filter(|text| !text.contains('\0'));
    text.and_then(read).ok_or_else(|| found(value))
}

/// A size, as text or as a number of bytes.
pub(super) fn from_size<T>(
    value: &DeValue<'_>,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    match value {
        DeValue::Integer(number) if number.radix() == 10 => {
            read(number.as_str()).ok_or_else(|| found(value))
        }
        _ => from_text(value, read),
    }
}

pub(super) fn texts(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let list = value.as_array().ok_or_else(|| found(value))?;
    let text = |value: &DeValue<'_>| from_text(value, |text| Some(text.to_owned()));
    list.iter().map(|value| text(value.get_ref())).collect()
}

pub(super) fn word<T: Copy>(
    value: &DeValue<'_>,
    all: &[T],
    name: impl Fn(&T) -> &'static str,
) -> Result<T, String> {
    from_text(value, |text| {
        all.iter().copied().find(|it| name(it) == text)
    })
}

pub(super) fn words<T: Copy>(
    value: &DeValue<'_>,
    all: &[T],
    name: impl Fn(&T) -> &'static str,
) -> Result<Vec<T>, String> {
    let list = value.as_array().ok_or_else(|| found(value))?;
    list.iter()
        .map(|value| word(value.get_ref(), all, &name))
        .collect()
}

pub(super) fn name(value: &DeValue<'_>) -> Result<String, String> {
    from_text(value, |text| (!text.is_empty()).then(|| text.to_owned()))
}

pub(super) fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    from_text(value, |text| text.starts_with('/').then(|| text.into()))
}

pub(super) fn servers(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let servers = texts(value)?;
    let fits = |server: &&String| {
        let name = server.rsplit('/').next().unwrap_or_default();
        !name.is_empty() && name.len() <= SERVER_LEN
    };
    match servers.iter().find(|server| !fits(server)) {
        Some(wrong) => Err(format!("found {wrong:?}")),
        None => Ok(servers),
    }
}

pub(super) fn backend(value: &DeValue<'_>) -> Result<Option<Backend>, String> {
    from_text(value, |text| match text {
        "auto" => Some(None),
        _ => Backend::ALL
            .into_iter()
            .find(|it| it.to_string() == text)
            .map(Some),
    })
}

pub(super) fn clients(value: &DeValue<'_>) -> Result<usize, String> {
    let number = value
        .as_integer()
        .and_then(|number| number.as_str().parse().ok());
    number
        .filter(|number| (1..=10_000).contains(number))
        .ok_or_else(|| found(value))
}

pub(super) fn rate(text: &str) -> Option<Rate> {
    let (count, per) = text.split_once('/')?;
    let rate = Rate {
        count: count.trim().parse().ok()?,
        per: units::time(per.trim())?,
    };
    (rate.count > 0 && !rate.per.is_zero()).then_some(rate)
}

pub(super) fn is_url(text: &str) -> bool {
    let url: Option<ureq::http::Uri> = text.parse().ok();
    url.is_some_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some()
    })
}

pub(super) fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

pub(super) fn quote_all<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

pub(super) fn time(time: Duration) -> String {
    quote(&units::time_text(time))
}

pub(super) fn size(bytes: u64) -> String {
    quote(&units::size_text(bytes))
}
