//! Decompression by what a file is, not by how it is called: by-hash addresses have no suffix.

use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use std::io::{self, BufRead, Read};

/// The longest index after decompression, in bytes: thirty times the largest of the archive (Contents are not read).
pub(super) const MAX_OUTPUT: u64 = 2 << 30;

/// What xz and zstd may take for their windows, in bytes. `xz -9` takes 65 MiB to decompress, `zstd --ultra` 128 MiB.
const MAX_WINDOW: u64 = 192 << 20;

/// The content of `source`, decompressed where its first bytes are those of gzip (RFC 1952), xz, lzma, bzip2,
/// zstd (RFC 8878) or an LZ4 frame, and as it stands otherwise.
///
/// Members and frames that follow one another are one content. Reading fails beyond [`MAX_OUTPUT`]. Some formats do
/// not notice that their end is missing; the caller verifies a digest.
///
/// # Errors
/// What `source` fails with.
pub(super) fn decompress<'a, R: BufRead + Send>(source: &'a mut R) -> io::Result<impl Read + use<'a, R>> {
    let plain: Box<dyn Read + Send + 'a> = match Format::of(peek(source)?) {
        Format::Plain => Box::new(source),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Format::Xz => {
            let stream =
                liblzma::stream::Stream::new_auto_decoder(MAX_WINDOW, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
        }
        Format::Zstd => Box::new(Zstd { source, frame: None }),
        Format::Lz4 => Box::new(Lz4(lz4_flex::frame::FrameDecoder::new(source))),
    };
    Ok(Bounded { plain, left: MAX_OUTPUT })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
    Lz4,
}

impl Format {
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] | [0x5d, 0, 0, ..] => Self::Xz,
            // RFC 8878 §3.1.1 and §3.1.2: a frame, or a skippable frame before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            _ => Self::Plain,
        }
    }
}

/// The bytes that come next, without taking them.
fn peek(source: &mut impl BufRead) -> io::Result<&[u8]> {
    loop {
        // Two borrows, because the one that is returned cannot be tried in a loop.
        match source.fill_buf() {
            Ok(_) => return source.fill_buf(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Fails when a bomb goes off, instead of filling what stands behind it.
struct Bounded<R> {
    plain: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.plain.read(buf)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it has more than {MAX_OUTPUT} bytes when decompressed"),
            )
        })?;
        Ok(read)
    }
}

/// Zstandard frames, one after the other; the decoder knows only one.
struct Zstd<'a, R: BufRead> {
    source: &'a mut R,
    frame: Option<FrameDecoder>,
}

impl<R: BufRead> Zstd<'_, R> {
    /// Begins the next frame; false at the end of the source.
    fn begin(&mut self) -> io::Result<bool> {
        while !peek(self.source)?.is_empty() {
            let mut decoder = FrameDecoder::new();
            decoder.set_max_window_size(MAX_WINDOW);
            match decoder.init(&mut *self.source) {
                Ok(()) => {
                    self.frame = Some(decoder);
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(decoder) = &mut self.frame {
                let read = step(decoder, self.source, buf)?;
                if read > 0 {
                    return Ok(read);
                }
                self.frame = None;
            }
            if !self.begin()? {
                return Ok(0);
            }
        }
    }
}

/// Decodes until there are bytes for `buf` or the frame ends.
fn step(decoder: &mut FrameDecoder, source: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    use ruzstd::decoding::BlockDecodingStrategy::UptoBlocks;
    while decoder.can_collect() == 0 && !decoder.is_finished() {
        decoder
            .decode_blocks(&mut *source, UptoBlocks(1))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    decoder.read(buf)
}

/// LZ4 frames, one after the other; the decoder reports the end of each.
struct Lz4<'a, R: BufRead>(lz4_flex::frame::FrameDecoder<&'a mut R>);

impl<R: BufRead> Read for Lz4<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let read = self.0.read(buf)?;
            if read > 0 || peek(*self.0.get_mut())?.is_empty() {
                return Ok(read);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn text() -> Vec<u8> {
        (0..20_000).flat_map(|n| format!("Package: p{n}\n").into_bytes()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn lzma(bytes: &[u8]) -> Vec<u8> {
        let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
        let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// Linked blocks, as apt writes its lists.
    fn lz4(bytes: &[u8]) -> Vec<u8> {
        let mut layout = lz4_flex::frame::FrameInfo::new();
        layout.block_mode = lz4_flex::frame::BlockMode::Linked;
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(layout, Vec::new());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    type Compress = fn(&[u8]) -> Vec<u8>;
    const FORMATS: [(&str, Compress); 6] =
        [("gz", gzip), ("xz", xz), ("bz2", bzip2), ("zst", zstd), ("lz4", lz4), ("plain", <[u8]>::to_vec)];

    fn read(mut packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(&mut packed)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_format_is_known_by_its_content() {
        let text = text();
        for (name, compress) in FORMATS {
            assert!(read(&compress(&text)).unwrap() == text, "{name} came out differently");
            assert_eq!(read(&compress(b"")).unwrap(), b"", "{name} of nothing");
        }
        assert!(read(&lzma(&text)).unwrap() == text, "lzma came out differently");
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn members_that_follow_one_another_are_one_content() {
        for (name, compress) in FORMATS {
            let packed = [compress(b"one"), compress(b"two"), compress(b""), compress(b"three")].concat();
            assert_eq!(read(&packed).unwrap(), b"onetwothree", "{name}");
        }
    }

    #[test]
    fn skippable_frames_of_zstd_are_skipped() {
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let packed = [&skippable[..], &zstd(b"one"), &skippable, &zstd(b"two"), &skippable].concat();
        assert_eq!(read(&packed).unwrap(), b"onetwo");
    }

    #[test]
    fn a_bomb_is_an_error_at_the_limit() {
        let mut bounded = Bounded { plain: io::repeat(0), left: 10_000 };
        let error = io::copy(&mut bounded, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn damage_never_panics(which in 0_usize..5, at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>()) {
            let mut packed = FORMATS[which].1(&text()[..40_000]);
            let at = at.index(packed.len());
            packed[at] ^= with;
            if cut {
                packed.truncate(at);
            }
            let _ = read(&packed);
        }

        #[test]
        fn rubbish_behind_a_magic_never_panics(which in 0_usize..5, tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut packed = FORMATS[which].1(b"x");
            packed.truncate(6);
            packed.extend(tail);
            let _ = read(&packed);
        }
    }
}
