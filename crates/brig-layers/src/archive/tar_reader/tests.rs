use super::*;

fn entries(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(archive);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        let size = entry.size;
        (&mut reader).take(size).read_to_end(&mut content)?;
        entries.push((entry, content));
    }
    Ok(entries)
}

fn archive(path: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o4755);
    header.set_mtime(5);
    builder.append_data(&mut header, path, content).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn numbers_are_octal_or_of_base_256() {
    for (bytes, expected) in [
        (&b"0000644\0"[..], 0o644),
        (b"  644 \0\0", 0o644),
        (b"\0\0\0\0", 0),
        (b"\x80\0\0\0\0\0\x01\0", 256),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", -1),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
    ] {
        assert_eq!(field(bytes).unwrap(), expected, "{}", bytes.escape_ascii());
    }
    for bytes in [&b"9"[..], b"0x1", b"-1", b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
        assert!(field(bytes).is_err(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn long_names_and_contents_arrive() {
    let name = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let content = vec![7; 1500];
    let read = entries(&archive(&name, &content)).unwrap();
    let [(entry, found)] = &read[..] else { panic!() };
    assert_eq!((entry.path.as_slice(), found), (name.as_bytes(), &content));
    assert_eq!((entry.mode, entry.mtime, entry.kind), (0o4755, (5, 0), Kind::File));
}

#[test]
fn an_archive_that_ends_early_is_an_error_wherever_it_ends() {
    let whole = archive("file", &[1; 700]);
    assert_eq!(entries(&whole).unwrap().len(), 1);
    for end in (1..512 + 700).step_by(7) {
        let error = format!("{:#}", entries(&whole[..end]).unwrap_err());
        assert!(error.contains(&format!("at offset {end},")), "{error}");
    }
    // The data is complete: padding and end blocks are optional.
    for end in [512 + 700, 512 + 701, 512 + 1024, 512 + 1024 + 512] {
        assert_eq!(entries(&whole[..end]).unwrap().len(), 1, "{end}");
    }
}

#[test]
fn the_content_of_a_file_whose_name_ends_with_a_slash_is_no_header() {
    let hidden = archive("hidden", b"");
    let mut whole = archive("x", &hidden[..BLOCK_BYTES]);
    for (kind, expected) in [
        (b'0', vec![(&b"d/"[..], Kind::File)]),
        (b'7', vec![(b"d/", Kind::File)]),
        // A directory has no content.
        (0, vec![(b"d/", Kind::Directory), (b"hidden", Kind::File)]),
        (b'5', vec![(b"d/", Kind::Directory), (b"hidden", Kind::File)]),
    ] {
        let mut header = Header::from_byte_slice(&whole[..BLOCK_BYTES]).clone();
        header.as_old_mut().name[..3].copy_from_slice(b"d/\0");
        header.as_old_mut().linkflag = [kind];
        header.set_cksum();
        whole[..BLOCK_BYTES].copy_from_slice(header.as_bytes());
        let read = entries(&whole).unwrap();
        let read: Vec<_> = read.iter().map(|(e, _)| (e.path.as_slice(), e.kind)).collect();
        assert_eq!(read, expected, "{kind}");
    }
}

#[test]
fn a_damaged_header_is_no_entry() {
    let mut archive = archive("file", b"");
    archive[0] ^= 1;
    assert!(format!("{:#}", entries(&archive).unwrap_err()).contains("checksum"));
}

#[test]
fn an_extended_header_without_end_is_not_read() {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(8 << 30);
    header.set_cksum();
    let error = entries(header.as_bytes()).unwrap_err();
    assert!(format!("{error:#}").contains("extended header of 8589934592"), "{error:#}");
}

#[test]
fn maps_that_make_no_sense_are_errors() {
    let part = |offset, length| Sparse { offset, length };
    check_map(20, &[part(0, 5), part(10, 10), part(20, 0)], 15).unwrap();
    for (map, content) in [
        (vec![part(0, 5), part(4, 1)], 6),
        (vec![part(16, 5)], 5),
        (vec![part(u64::MAX, 1)], 1),
        (vec![part(0, 5)], 6),
    ] {
        assert!(check_map(20, &map, content).is_err(), "{map:?}");
    }
}
