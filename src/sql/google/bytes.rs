//! Functions of bytes: hashes, and bytes as texts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use datafusion::arrow::array::{ArrayRef, AsArray, BinaryArray, StringArray};
use datafusion::common::Result as DataFusionResult;
use md5::{Digest, Md5};
use sha1::Sha1;
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
        eval: |call| hash(call, |bytes| <Sha1 as sha1::Digest>::digest(bytes).to_vec()),
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
            call.map::<_, StringArray>(|row| Ok(Some(BASE64.encode(bytes.value(row)))))
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
        eval: |call| read(call, |text| BASE64.decode(text).ok(), "base64"),
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
