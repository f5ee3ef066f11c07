//! The byte alphabet of byte-level BPE: each byte has one printable character.

/// The character of each byte, by byte.
pub(crate) fn letters() -> [char; 256] {
    let mut letters = ['\0'; 256];
    let mut spare = '\u{100}'..;
    for (byte, letter) in (0_u8..=255).zip(&mut letters) {
        *letter = match byte {
            33..=126 | 161..=172 | 174..=255 => char::from(byte),
            // There are far more characters above U+0100 than bytes.
            _ => spare.next().unwrap_or_default(),
        };
    }
    letters
}

/// The byte behind a letter, if it is one of the alphabet.
pub(crate) fn byte_of(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    match code {
        33..=126 | 161..=172 | 174..=255 => u8::try_from(code).ok(),
        // The spare characters stand for the bytes left out above, in order.
        256..=288 => u8::try_from(code - 256).ok(),
        289..=322 => u8::try_from(code - 289 + 127).ok(),
        323 => Some(173),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_from_its_letter() {
        for (byte, letter) in (0_u8..=255).zip(letters()) {
            assert_eq!(byte_of(letter), Some(byte), "{letter:?}");
        }
        assert_eq!(letters()[usize::from(b' ')], 'Ġ');
        assert_eq!(byte_of('あ'), None);
    }
}
