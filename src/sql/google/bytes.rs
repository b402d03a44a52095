//! Functions of bytes: hashes, and bytes as texts.

use datafusion::arrow::array::{ArrayRef, AsArray, BinaryArray, StringArray};
use datafusion::common::Result as DataFusionResult;
use md5::{Digest, Md5};
use sha2::{Sha256, Sha512};

use super::function::{BASE, Call, Kind, Spec, returns_bytes};

const HASH: Spec = Spec {
    takes: &[Kind::Bytes],
    returns: returns_bytes,
    ..BASE
};

pub(super) const ALL: &[Spec] = &[
    Spec {
        title: "TO_HEX",
        name: "google_to_hex",
        syntax: "TO_HEX(bytes)",
        summary: "Bytes in hexadecimal digits, in lower case.",
        example: "SELECT TO_HEX(MD5('Hello World'))",
        takes: &[Kind::Bytes],
        eval: |call| {
            let bytes = call.arrays[0].as_binary::<i32>();
            call.map::<_, StringArray>(|row| {
                Ok(Some(
                    bytes.value(row).iter().map(|b| format!("{b:02x}")).collect::<String>(),
                ))
            })
        },
        ..BASE
    },
    Spec {
        title: "MD5",
        name: "google_md5",
        syntax: "MD5(text)",
        summary: "The MD5 hash of a text or of bytes: 16 bytes.",
        example: "SELECT TO_HEX(MD5('Hello World'))",
        eval: |call| hash(call, |bytes| Md5::digest(bytes).to_vec()),
        ..HASH
    },
    Spec {
        title: "SHA256",
        name: "google_sha256",
        syntax: "SHA256(text)",
        summary: "The SHA-256 hash of a text or of bytes: 32 bytes.",
        example: "SELECT TO_HEX(SHA256('Hello World'))",
        eval: |call| hash(call, |bytes| Sha256::digest(bytes).to_vec()),
        ..HASH
    },
    Spec {
        title: "SHA512",
        name: "google_sha512",
        syntax: "SHA512(text)",
        summary: "The SHA-512 hash of a text or of bytes: 64 bytes.",
        example: "SELECT TO_HEX(SHA512('Hello World'))",
        eval: |call| hash(call, |bytes| Sha512::digest(bytes).to_vec()),
        ..HASH
    },
    Spec {
        title: "SHA1",
        name: "sha1",
        syntax: "SHA1(text)",
        summary: "The SHA-1 hash of a text or of bytes: 20 bytes.",
        example: "SELECT TO_HEX(SHA1('Hello World'))",
        eval: |call| hash(call, sha1),
        ..HASH
    },
    Spec {
        title: "FROM_HEX",
        name: "from_hex",
        syntax: "FROM_HEX(text)",
        summary: "The bytes that hexadecimal digits write; an error for another text.",
        example: "SELECT FROM_HEX('00010203aaeeefff')",
        takes: &[Kind::Text],
        eval: |call| read(call, of_hex, "hexadecimal digits"),
        ..HASH
    },
    Spec {
        title: "TO_BASE64",
        name: "to_base64",
        syntax: "TO_BASE64(bytes)",
        summary: "Bytes in base64.",
        example: "SELECT TO_BASE64(b'\\377\\340')",
        takes: &[Kind::Bytes],
        eval: |call| {
            let bytes = call.arrays[0].as_binary::<i32>();
            call.map::<_, StringArray>(|row| Ok(Some(base64(bytes.value(row)))))
        },
        ..BASE
    },
    Spec {
        title: "FROM_BASE64",
        name: "from_base64",
        syntax: "FROM_BASE64(text)",
        summary: "The bytes that a text in base64 writes; an error for another text.",
        example: "SELECT TO_HEX(FROM_BASE64('/+A='))",
        takes: &[Kind::Text],
        eval: |call| read(call, of_base64, "base64"),
        ..HASH
    },
];

fn hash(call: &Call<'_>, digest: fn(&[u8]) -> Vec<u8>) -> DataFusionResult<ArrayRef> {
    let bytes = call.arrays[0].as_binary::<i32>();
    call.map::<_, BinaryArray>(|row| Ok(Some(digest(bytes.value(row)))))
}

fn read(call: &Call<'_>, bytes: fn(&str) -> Option<Vec<u8>>, what: &str) -> DataFusionResult<ArrayRef> {
    call.map::<_, BinaryArray>(|row| {
        let text = call.text(0).value(row);
        let wrong = || call.wrong(format!("'{text}' is no {what}; write SAFE.{}(…) for NULL", call.title));
        bytes(text).ok_or_else(wrong).map(Some)
    })
}

fn of_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let odd = digits.len() % 2;
    // Of an odd number of digits the first stands alone.
    let pairs = digits.get(odd..)?.chunks_exact(2);
    let first = digits.first().copied().filter(|_| odd == 1);
    let bytes = pairs.map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + digit));
    first.into_iter().chain(bytes).map(|b| u8::try_from(b).ok()).collect()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| three.get(i).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let place = usize::try_from(bits >> (18 - 6 * i) & 63).unwrap_or(0);
            out.push(if i <= three.len() {
                char::from(ALPHABET[place])
            } else {
                '='
            });
        }
    }
    out
}

fn of_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if text.len() % 4 != 0 || padding > 2 {
        return None;
    }
    let mut out = vec![];
    for four in digits.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for i in 0..4 {
            let value = match four.get(i) {
                Some(digit) => u32::try_from(ALPHABET.iter().position(|a| a == digit)?).ok()?,
                None => 0,
            };
            bits = bits << 6 | value;
        }
        out.extend(bits.to_be_bytes().iter().skip(1).take(four.len() - 1));
    }
    Some(out)
}

/// SHA-1, as FIPS 180 has it.
fn sha1(bytes: &[u8]) -> Vec<u8> {
    let mut message = bytes.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend((bytes.len() as u64).wrapping_mul(8).to_be_bytes());
    let mut state: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
    for block in message.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, four) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = four.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        for i in 16..80 {
            words[i] = (words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (i, word) in words.iter().enumerate() {
            let (f, k) = match i / 20 {
                0 => (b & c | !b & d, 0x5A82_7999),
                1 => (b ^ c ^ d, 0x6ED9_EBA1),
                2 => (b & c | b & d | c & d, 0x8F1B_BCDC),
                _ => (b ^ c ^ d, 0xCA62_C1D6u32),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(f)
                .wrapping_add(e)
                .wrapping_add(k)
                .wrapping_add(*word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (old, new) in state.iter_mut().zip([a, b, c, d, e]) {
            *old = old.wrapping_add(new);
        }
    }
    state.iter().flat_map(|word| word.to_be_bytes()).collect()
}
