//! The Forward protocol of Fluentd and Fluent Bit, version 1, with acknowledgements.
//! <https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>

use std::time::Duration;

use relume_os::clock;
use rmp::encode::{self, ByteBuf};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::net::Stream;
use super::record::Record;

/// How long an acknowledgement may take.
const ACK: Duration = Duration::from_secs(20);

/// An acknowledgement is a map of one short text.
const LONGEST_ACK: usize = 4096;

#[derive(Deserialize)]
struct Ack {
    ack: String,
}

/// Sends a batch, each service's lines under a tag of its own, and waits until each part is acknowledged.
pub(super) async fn send(stream: &mut dyn Stream, batch: &[Record], tag: &str) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    // Different for every part that this machine sends.
    let batch_name = format!("{:x}-{:x}", std::process::id(), clock::realtime().as_nanos());
    for (number, part) in batch.chunk_by(|a, b| a.service == b.service).enumerate() {
        let chunk = format!("{batch_name}-{number}");
        let message = message(part, tag, &chunk);
        stream.write_all(&message).await.map_err(said)?;
        stream.flush().await.map_err(said)?;
        let late = || format!("no acknowledgement within {} s", ACK.as_secs());
        timeout(ACK, acknowledged(stream, &chunk)).await.unwrap_or_else(|_| Err(late()))?;
    }
    Ok(())
}

async fn acknowledged(stream: &mut dyn Stream, chunk: &str) -> Result<(), String> {
    let mut answer = Vec::new();
    let mut block = [0; 512];
    loop {
        let read = stream.read(&mut block).await.map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("the receiver has closed the connection".into());
        }
        answer.extend_from_slice(&block[..read]);
        match rmp_serde::from_slice::<Ack>(&answer) {
            Ok(ack) if ack.ack == chunk => return Ok(()),
            Ok(_) => return Err("the receiver has acknowledged something else".into()),
            Err(_) if answer.len() < LONGEST_ACK => {}
            Err(error) => return Err(format!("the receiver's answer is no acknowledgement: {error}")),
        }
    }
}

/// `[tag, [[time, record], …], {chunk, size}]`
fn message(part: &[Record], tag: &str, chunk: &str) -> Vec<u8> {
    let mut out = ByteBuf::new();
    let size = u32::try_from(part.len()).unwrap_or(u32::MAX);
    let service = part.first().map(|record| record.service.as_str()).unwrap_or_default();
    // Writing to memory cannot fail: the error type of the buffer has no value.
    let Ok(_) = encode::write_array_len(&mut out, 3);
    let Ok(()) = encode::write_str(&mut out, &format!("{tag}{service}"));
    let Ok(_) = encode::write_array_len(&mut out, size);
    for record in part {
        entry(&mut out, record);
    }
    let Ok(_) = encode::write_map_len(&mut out, 2);
    text(&mut out, "chunk", chunk);
    let Ok(()) = encode::write_str(&mut out, "size");
    let Ok(_) = encode::write_uint(&mut out, u64::from(size));
    out.into_vec()
}

fn entry(out: &mut ByteBuf, record: &Record) {
    const NANOS: i64 = 1_000_000_000;
    let Ok(_) = encode::write_array_len(out, 2);
    // EventTime: extension 0, seconds and nanoseconds in 32 bits each, big-endian.
    let Ok(_) = encode::write_ext_meta(out, 8, 0);
    let seconds = u32::try_from(record.at.div_euclid(NANOS)).unwrap_or(0);
    let nanos = u32::try_from(record.at.rem_euclid(NANOS)).unwrap_or(0);
    for number in [seconds, nanos] {
        out.as_mut_vec().extend_from_slice(&number.to_be_bytes());
    }
    let fields = 3 + u32::from(record.run.is_some());
    let Ok(_) = encode::write_map_len(out, fields);
    text(out, "log", &record.text());
    text(out, "service", &record.service);
    text(out, "stream", record.stream());
    if let Some(run) = record.run {
        let Ok(()) = encode::write_str(out, "run");
        let Ok(_) = encode::write_uint(out, u64::from(run));
    }
}

fn text(out: &mut ByteBuf, key: &str, value: &str) {
    let Ok(()) = encode::write_str(out, key);
    let Ok(()) = encode::write_str(out, value);
}
