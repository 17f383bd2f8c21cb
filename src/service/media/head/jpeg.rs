//! JPEG. <https://www.w3.org/Graphics/JPEG/itu-t81.pdf>, B.1 and B.2

use std::io::{BufRead, Seek};

use super::{Head, STEPS, byte, bytes, go_to, pixels, skip};

/// Walks over the segments up to the first scan.
pub(super) fn head<R: BufRead + Seek>(reader: &mut R, file_size: u64) -> Option<Head> {
    go_to(reader, 2)?;
    let (mut frame, mut metadata) = (None, 0);
    for _ in 0..STEPS {
        if byte(reader)? != 0xff {
            return None;
        }
        let mut marker = byte(reader)?;
        while marker == 0xff {
            marker = byte(reader)?;
        }
        let length = u16::from_be_bytes(bytes(reader)?).checked_sub(2)?;
        match marker {
            // Baseline, extended and progressive; no decoder of ours knows the others.
            0xc0..=0xc2 if frame.is_none() => frame = Some(Frame::read(reader, marker == 0xc2, length)?),
            // DHT and DAC lie among the frame headers.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xcc) => return None,
            START_OF_SCAN => {
                let in_scan = byte(reader)?;
                // The whole file is in memory, and what it says beside the picture a second time.
                return Some(frame?.head(in_scan, file_size + metadata));
            }
            _ => {
                metadata += u64::from(length);
                skip(reader, length)?;
            }
        }
    }
    None
}

/// What the frame header says.
struct Frame {
    width: u16,
    height: u16,
    progressive: bool,
    /// How many samples each component has of a unit, across and down.
    sampling: Vec<(u8, u8)>,
}

impl Frame {
    fn read(reader: &mut impl BufRead, progressive: bool, length: u16) -> Option<Self> {
        let [_, h1, h2, w1, w2, components] = bytes(reader)?;
        if !(1..=4).contains(&components) || length != 6 + 3 * u16::from(components) {
            return None;
        }
        let mut sampling = Vec::new();
        for _ in 0..components {
            let [_, factors, _] = bytes(reader)?;
            sampling.push((factors >> 4, factors & 15));
        }
        let (width, height) = (u16::from_be_bytes([w1, w2]), u16::from_be_bytes([h1, h2]));
        let sane = |&(across, down): &(u8, u8)| (1..=4).contains(&across) && (1..=4).contains(&down);
        sampling.iter().all(sane).then_some(Self { width, height, progressive, sampling })
    }

    fn head(&self, in_scan: u8, in_memory: u64) -> Head {
        let (width, height) = (u32::from(self.width), u32::from(self.height));
        let channels = if self.sampling.len() == 1 { 1 } else { 3 };
        let most =
            |factor: fn(&(u8, u8)) -> u8| u32::from(self.sampling.iter().map(factor).max().unwrap_or(1));
        let (across, down) = (most(|factors| factors.0), most(|factors| factors.1));
        let (units_across, units_down) = (width.div_ceil(8 * across), height.div_ceil(8 * down));
        let blocks: u64 =
            self.sampling.iter().map(|&(across, down)| u64::from(across) * u64::from(down)).sum();
        // All coefficients of all components, two bytes each, unless one pass over the file makes the whole picture.
        let coefficients = if self.progressive || usize::from(in_scan) < self.sampling.len() {
            pixels(units_across, units_down) * blocks * 128
        } else {
            0
        };
        // Some lines of each component, before and after it is as large as the picture.
        let line = u64::from(units_across * 8 * across) * 2;
        let lines = line * u64::from(8 * down) * self.sampling.len() as u64 * 2;
        let cost = pixels(width, height) * channels + coefficients + lines + in_memory;
        Head { width, height, is_animated: false, cost, may_turn: true, codes: Vec::new() }
    }
}

const START_OF_SCAN: u8 = 0xda;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// The head of a picture of 800 × 600 pixels, whose colours are sampled half as often.
    fn of(frame: u8, in_scan: u8, components: u8) -> Option<Head> {
        let mut file = vec![0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2];
        file.extend([
            0xff,
            frame,
            0,
            8 + 3 * components,
            8,
            600_u16.to_be_bytes()[0],
            600_u16.to_be_bytes()[1],
        ]);
        file.extend(800_u16.to_be_bytes());
        file.push(components);
        for component in 0..components {
            file.extend([component, if component == 0 { 0x22 } else { 0x11 }, 0]);
        }
        file.extend([0xff, 0xda, 0, 6 + 2 * in_scan, in_scan]);
        head(&mut Cursor::new(&file), 1_000)
    }

    #[test]
    fn what_needs_all_coefficients_costs_as_much() {
        let cost = |frame, in_scan, components| of(frame, in_scan, components).unwrap().cost;
        let lines = 800 * 2 * 16 * 3 * 2;
        assert_eq!(cost(0xc0, 3, 3), 800 * 600 * 3 + lines + 1_002);
        // 608 lines, a multiple of 16; half as many samples of the colours as of the light.
        let all = cost(0xc0, 3, 3) + 800 * 608 * 3;
        assert_eq!(cost(0xc2, 3, 3), all);
        assert_eq!(cost(0xc0, 1, 3), all, "a scan for each component");
        assert!(cost(0xc2, 4, 4) > all);
        assert!(cost(0xc0, 1, 1) < 800 * 600 + lines);
    }

    #[test]
    fn what_no_decoder_knows_is_no_picture() {
        for (frame, components) in [(0xc3, 3), (0xc9, 3), (0xc0, 0), (0xc0, 5)] {
            assert_eq!(of(frame, 1, components), None);
        }
    }
}
