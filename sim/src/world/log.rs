//! What the product says about itself (`tracing`), as part of the trace.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::queue::Queue;
use super::turn::speaker;
use crate::trace::Trace;

/// Takes the product's events into a trace.
pub struct Log {
    trace: Trace,
    queue: Queue,
    level: Level,
}

impl Log {
    /// Events of the product at this level and above. Levels below `INFO` are for reading alone.
    pub fn new(trace: Trace, queue: Queue, verbose: bool) -> Log {
        let level = match verbose {
            true => Level::TRACE,
            false => Level::INFO,
        };
        Log {
            trace,
            queue,
            level,
        }
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level && metadata.target().starts_with("posthouse")
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.into())
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let level = event.metadata().level();
        let who = speaker().map_or_else(|| "world".to_owned(), |host| host.to_string());
        let at = self.queue.now_us();
        let Text(text) = text;
        match *level <= Level::INFO {
            true => self.trace.event(at, format_args!("{who} {level}{text}")),
            false => self.trace.aside(at, format_args!("{who} {level}{text}")),
        }
    }
}
