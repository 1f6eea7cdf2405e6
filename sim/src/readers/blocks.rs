//! An event stream as its reader reads it (HTML, 9.2.6 *Interpreting an event stream*), written from the standard.
//!
//! In: bytes, cut anywhere. Out: whole blocks, in order, also those that a browser dispatches to nobody: their ids and
//! times count. A block that was not ended is dropped with the stream.

/// What stood between two empty lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) event: Option<String>,
    /// Its lines, joined by line feeds.
    pub(crate) data: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) retry_ms: Option<u64>,
    pub(crate) comments: usize,
}

#[derive(Debug, Default)]
pub(crate) struct BlockReader {
    line: Vec<u8>,
    block: Block,
}

impl BlockReader {
    /// True within a block.
    pub(crate) fn is_within(&self) -> bool {
        !self.line.is_empty() || self.block != Block::default()
    }

    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Vec<Block>, String> {
        let mut blocks = Vec::new();
        for byte in bytes {
            match byte {
                b'\r' => return Err("events: a carriage return".to_owned()),
                b'\n' if self.line.is_empty() => blocks.push(std::mem::take(&mut self.block)),
                b'\n' => self.field()?,
                byte => self.line.push(*byte),
            }
        }
        Ok(blocks)
    }

    fn field(&mut self) -> Result<(), String> {
        let line = String::from_utf8(std::mem::take(&mut self.line)).map_err(|error| format!("events: {error}"))?;
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" => self.block.comments += 1,
            "event" => self.block.event = Some(value.to_owned()),
            "data" => {
                let lines = self.block.data.take().map(|before| format!("{before}\n{value}"));
                self.block.data = Some(lines.unwrap_or_else(|| value.to_owned()));
            }
            "id" => self.block.id = Some(value.to_owned()),
            "retry" => {
                let ms = value.parse().map_err(|_| format!("events: {line:?} is no time"))?;
                self.block.retry_ms = Some(ms);
            }
            _ => return Err(format!("events: {line:?} has no field of an event stream")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_in_blocks_wherever_it_is_cut() {
        let text = "retry: 5\nid: a.1\ndata: {\ndata:  }\n\n:\n\nevent: x\ndata: y\n\ndata: cut";
        let block = |event: Option<&str>, data: Option<&str>, id: Option<&str>| Block {
            event: event.map(str::to_owned),
            data: data.map(str::to_owned),
            id: id.map(str::to_owned),
            ..Block::default()
        };
        let expected = [
            Block { retry_ms: Some(5), ..block(None, Some("{\n }"), Some("a.1")) },
            Block { comments: 1, ..Block::default() },
            block(Some("x"), Some("y"), None),
        ];
        for cut in 0..=text.len() {
            let mut reader = BlockReader::default();
            let (first, second) = text.as_bytes().split_at(cut);
            let mut read = reader.read(first).expect("valid");
            read.extend(reader.read(second).expect("valid"));
            assert_eq!(read, expected, "{cut}");
            assert!(reader.is_within(), "{cut}");
        }
    }
}
