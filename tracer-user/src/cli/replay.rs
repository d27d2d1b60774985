//! `lastbyte replay`.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Context as _;
use tracer_ebpf::{Kind, Record, edge};

use super::{Replay, live::Screen};
use crate::{model::Model, store::recording::Reader};

impl Replay {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let path = self.file.display();
        let mut reader = Reader::open(&self.file).with_context(|| path.to_string())?;
        if self.count {
            // What comes by the clock is apart from what comes by events.
            let (mut events, mut periodic) = (BTreeMap::new(), BTreeMap::new());
            while let Some(record) = reader.next().with_context(|| path.to_string())? {
                let (counts, name): (&mut BTreeMap<String, u64>, _) = match record {
                    Record::Tick(_) => (&mut periodic, "tick".to_owned()),
                    Record::Stream(stream) if stream.edge == edge::SAMPLE => {
                        (&mut periodic, "sample".to_owned())
                    }
                    other => (&mut events, name(&other)),
                };
                *counts.entry(name).or_default() += 1;
            }
            println!(
                "{}",
                serde_json::json!({ "records": events, "periodic": periodic })
            );
        } else {
            let mut screen = Screen::new(self.print);
            let (mut model, mut updates) = (Model::new(), Vec::new());
            while let Some(record) = reader.next().with_context(|| path.to_string())? {
                model.apply(record, &mut updates);
                screen.print(&updates)?;
                updates.clear();
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn name(record: &Record<'_>) -> String {
    Kind::of(record.header().kind)
        .map_or_else(String::new, |kind| format!("{kind:?}").to_lowercase())
}
