//! Lines of bounded length from any byte stream, with true line numbers.

use std::io::{self, BufRead, BufReader, Read};

use xxhash_rust::xxh3::Xxh3;

/// The longest line that is read. A longer one is skipped, in constant memory, and reported.
pub const MAX_LINE: usize = 16 << 20;

/// One line without its line feed, or the news that it was too long.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Text(&'a [u8]),
    TooLong { bytes: u64 },
}

/// Large reads keep the check of a file near the speed of the disk.
const READ_BUFFER: usize = 256 << 10;

/// Reads lines and hashes every byte that it passes.
pub struct Lines<R> {
    source: BufReader<R>,
    buffer: Vec<u8>,
    number: u64,
    hash: Xxh3,
    bytes: u64,
}

impl<R: Read> Lines<R> {
    pub fn new(source: R) -> Self {
        Self::with_buffer(source, READ_BUFFER)
    }

    fn with_buffer(source: R, size: usize) -> Self {
        let source = BufReader::with_capacity(size, source);
        Lines {
            source,
            buffer: Vec::new(),
            number: 0,
            hash: Xxh3::new(),
            bytes: 0,
        }
    }

    /// Returns the next line with its 1-based number, or `None` at the end.
    pub fn next_line(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        self.buffer.clear();
        let mut length = 0u64;
        loop {
            let chunk = match self.source.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                if length == 0 {
                    return Ok(None);
                }
                break;
            }
            let end = memchr::memchr(b'\n', chunk);
            let text = &chunk[..end.unwrap_or(chunk.len())];
            let used = end.map_or(chunk.len(), |end| end + 1);
            let room = MAX_LINE.saturating_sub(self.buffer.len());
            self.buffer.extend_from_slice(&text[..text.len().min(room)]);
            self.hash.update(&chunk[..used]);
            length += used as u64;
            self.bytes += used as u64;
            self.source.consume(used);
            if end.is_some() {
                length -= 1;
                break;
            }
        }
        self.number += 1;
        if length > MAX_LINE as u64 {
            return Ok(Some((self.number, Line::TooLong { bytes: length })));
        }
        let mut text = &self.buffer[..];
        if self.number == 1 {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        Ok(Some((self.number, Line::Text(text.trim_ascii()))))
    }

    /// Tells whether the next line may be a while in coming: nothing is left of the last read.
    pub fn may_wait(&self) -> bool {
        self.source.buffer().is_empty()
    }

    /// Returns how many bytes were read, and their hash.
    pub fn digest(&self) -> (u64, u128) {
        (self.bytes, self.hash.digest128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::with_buffer(input, 7);
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next_line().unwrap() {
            found.push(match line {
                Line::Text(text) => (number, Some(String::from_utf8(text.to_vec()).unwrap())),
                Line::TooLong { .. } => (number, None),
            });
        }
        found
    }

    #[test]
    fn bom_crlf_blank_lines_and_a_missing_last_newline_keep_numbers_true() {
        let found = all(b"\xef\xbb\xbf{\"a\":1}\r\n\r\n  \n{\"b\":2}  \n{\"c\":3}");
        let expected = ["{\"a\":1}", "", "", "{\"b\":2}", "{\"c\":3}"];
        assert_eq!(found.len(), expected.len());
        for (at, (number, text)) in found.iter().enumerate() {
            assert_eq!(*number, at as u64 + 1);
            assert_eq!(text.as_deref(), Some(expected[at]));
        }
    }

    #[test]
    fn an_overlong_line_is_skipped_and_the_next_one_read() {
        let mut input = vec![b'x'; MAX_LINE + 1];
        input.extend_from_slice(b"\nnext\n");
        let mut lines = Lines::new(&input[..]);
        let too_long = Line::TooLong {
            bytes: MAX_LINE as u64 + 1,
        };
        assert_eq!(lines.next_line().unwrap(), Some((1, too_long)));
        assert_eq!(lines.next_line().unwrap(), Some((2, Line::Text(b"next"))));
        assert_eq!(lines.next_line().unwrap(), None);
    }

    #[test]
    fn the_longest_allowed_line_passes() {
        let mut input = vec![b'x'; MAX_LINE];
        input.push(b'\n');
        let mut lines = Lines::new(&input[..]);
        assert_eq!(
            lines.next_line().unwrap(),
            Some((1, Line::Text(&input[..MAX_LINE])))
        );
    }

    #[test]
    fn the_hash_covers_every_byte() {
        let digest = |input: &[u8]| {
            let mut lines = Lines::with_buffer(input, 3);
            while lines.next_line().unwrap().is_some() {}
            lines.digest()
        };
        assert_eq!(digest(b"a\nb\n"), digest(b"a\nb\n"));
        assert_ne!(digest(b"a\nb\n"), digest(b"a\nb"));
        assert_eq!(digest(b"a\r\nb").0, 4);
    }
}
