//! Thumbnails. <https://spec.matrix.org/v1.19/client-server-api/#thumbnails>

use std::{fs, io::Cursor, path::Path};

use image::{
    DynamicImage, Frame, GenericImageView, ImageFormat, Rgb, RgbImage, RgbaImage, codecs::gif::GifEncoder,
};

use super::{Answer, noise};
use crate::rig::{Member, Rig};

/// A picture whose left half is red and whose right half is blue.
pub(crate) fn picture(width: u32, height: u32) -> DynamicImage {
    let colour = |x, _| if x < width / 2 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) };
    RgbImage::from_fn(width, height, colour).into()
}

pub(crate) fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    picture.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

/// Asks for a thumbnail.
async fn thumbnail(rig: &Rig, who: &Member, id: &str, size: (u32, u32), more: &str) -> Answer {
    rig.media(who, &format!("thumbnail/{id}?width={}&height={}{more}", size.0, size.1)).await
}

/// Decodes an answer, which must be what it says. R39
#[track_caller]
fn decoded(answer: Answer) -> DynamicImage {
    let answer = answer.harmless();
    assert!(answer.header("content-disposition").starts_with("inline"));
    let format = ImageFormat::from_mime_type(answer.header("content-type")).unwrap();
    image::load_from_memory_with_format(&answer.body, format).unwrap()
}

#[track_caller]
fn is_red(picture: &DynamicImage, x: u32, y: u32) {
    let [red, _, blue, _] = picture.get_pixel(x, y).0;
    assert!(red > 200 && blue < 50, "({x}, {y}) is {red}, {blue}");
}

#[tokio::test]
async fn every_format_has_thumbnails_of_the_sizes_that_are_recommended() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP] {
        let body = encoded(&picture(1_000, 500), format);
        // The uploader's word is not taken for it.
        let id = rig.upload(&alice, "text/plain", &body).await;
        for (wanted, method, size) in [
            ((32, 32), "crop", (32, 32)),
            ((96, 96), "crop", (96, 96)),
            ((40, 40), "crop", (96, 96)),
            ((96, 48), "crop", (96, 64)),
            ((320, 240), "scale", (320, 160)),
            ((640, 480), "scale", (640, 320)),
            ((641, 480), "scale", (800, 400)),
            ((800, 600), "scale", (800, 400)),
        ] {
            let answer = thumbnail(&rig, &alice, &id, wanted, &format!("&method={method}")).await;
            let made = decoded(answer);
            assert_eq!((made.width(), made.height()), size, "{format:?} {wanted:?} {method}");
            is_red(&made, 2, made.height() / 2);
        }
        let made = decoded(thumbnail(&rig, &alice, &id, (10, 10), "").await);
        assert_eq!((made.width(), made.height()), (320, 160), "without a method it is scaled");
    }
}

#[tokio::test]
async fn no_thumbnail_is_larger_than_its_picture() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let body = encoded(&picture(100, 50), ImageFormat::Png);
    let id = rig.upload(&alice, "application/octet-stream", &body).await;
    for (wanted, method) in [((320, 240), "scale"), ((101, 51), "scale"), ((200, 200), "crop")] {
        let answer = thumbnail(&rig, &alice, &id, wanted, &format!("&method={method}")).await.ok();
        assert!(answer.body == body, "the original itself: {wanted:?}");
        assert_eq!(answer.header("content-type"), "image/png");
    }
    let large = encoded(&picture(2_000, 1_700), ImageFormat::Jpeg);
    let id = rig.upload(&alice, "image/jpeg", &large).await;
    let answer = thumbnail(&rig, &alice, &id, (1_601, 1), "").await.ok();
    assert!(answer.body == large, "nothing that large is made");
    // One side is too short to be cut from.
    let narrow = rig.upload(&alice, "image/png", &encoded(&picture(1_000, 20), ImageFormat::Png)).await;
    let made = decoded(thumbnail(&rig, &alice, &narrow, (96, 96), "&method=crop").await);
    assert_eq!((made.width(), made.height()), (96, 20));
}

#[tokio::test]
async fn a_thumbnail_is_made_once() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let body = encoded(&picture(1_000, 500), ImageFormat::Png);
    let id = rig.upload(&alice, "image/png", &body).await;
    let first = thumbnail(&rig, &alice, &id, (320, 240), "").await.ok();
    let folder = rig.folder().join("media/thumbnails").join(blake3::hash(&body).to_hex().as_str());
    let names =
        |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let [kept] = &names(&folder)[..] else { panic!("one thumbnail") };
    assert!(fs::read(kept).unwrap() == first.body);
    // If it were made again, this would be overwritten.
    fs::write(kept, b"kept").unwrap();
    assert_eq!(thumbnail(&rig, &alice, &id, (200, 200), "").await.ok().body, b"kept");
    let tag = first.header("etag").to_owned();
    let path = format!("thumbnail/{id}?width=320&height=240");
    assert_eq!(rig.media_with(&alice, &path, &[("if-none-match", &tag)]).await.status, 304);
    assert_ne!(tag, rig.media(&alice, &format!("download/{id}")).await.header("etag"));
}

#[tokio::test]
async fn a_picture_has_so_many_thumbnails() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let body = encoded(&picture(900, 900), ImageFormat::Png);
    let id = rig.upload(&alice, "image/png", &body).await;
    let folder = format!("thumbnails/{}", blake3::hash(&body).to_hex());
    let sizes = [(320, 240), (640, 480)].map(|size| (size, "")).into_iter();
    let sizes = sizes.chain((1..=25).map(|step| ((800, 32 * step), "&method=crop")));
    for (wanted, method) in sizes.clone() {
        let made = decoded(thumbnail(&rig, &alice, &id, wanted, method).await);
        assert!(made.width() == wanted.0 || method.is_empty());
    }
    let kept = rig.files(&folder);
    assert_eq!(kept.len(), tayberry::base::limits::THUMBNAILS_KEPT);
    assert!(kept.contains(&"800x800-crop.jpeg".to_owned()), "the newest are kept");
    assert!(!kept.contains(&"320x240-scale.jpeg".to_owned()), "the oldest gave way");
    decoded(thumbnail(&rig, &alice, &id, (320, 240), "").await);
}

#[tokio::test]
async fn what_is_transparent_stays_so() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let glass = DynamicImage::from(RgbaImage::new(500, 500));
    let id = rig.upload(&alice, "image/png", &encoded(&glass, ImageFormat::Png)).await;
    let answer = thumbnail(&rig, &alice, &id, (96, 96), "&method=crop").await;
    assert_eq!(answer.header("content-type"), "image/png");
    assert_eq!(decoded(answer).get_pixel(40, 40).0[3], 0);
}

/// A camera that was held upright says so, and doesn't turn the picture.
#[tokio::test]
async fn a_picture_on_its_side_is_turned() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    // An Exif segment with one entry: orientation 6, to be turned clockwise by 90 degrees.
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let jpeg = encoded(&picture(1_000, 500), ImageFormat::Jpeg);
    let body = [&jpeg[..2], exif, &jpeg[2..]].concat();
    let id = rig.upload(&alice, "image/jpeg", &body).await;
    let made = decoded(thumbnail(&rig, &alice, &id, (640, 480), "").await);
    assert_eq!((made.width(), made.height()), (240, 480));
    // What was left is above now.
    is_red(&made, 120, 5);
    let made = decoded(thumbnail(&rig, &alice, &id, (96, 96), "&method=crop").await);
    assert_eq!((made.width(), made.height()), (96, 96));
    is_red(&made, 48, 5);
}

#[tokio::test]
async fn an_animation_moves_only_where_that_is_wanted() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    for (kind, body) in [
        ("image/gif", moving_gif(200, 100)),
        ("image/png", moving_png(200, 100)),
        ("image/webp", moving_webp(200, 100)),
    ] {
        let id = rig.upload(&alice, kind, &body).await;
        for still in ["&animated=false", ""] {
            for wanted in [(800, 600), (5_000, 5_000), (20, 20)] {
                let answer = thumbnail(&rig, &alice, &id, wanted, still).await;
                assert!(["image/png", "image/jpeg"].contains(&answer.header("content-type")), "{kind}");
                assert!(!answer.body.windows(4).any(|chunk| chunk == b"acTL"), "{kind}");
                let made = decoded(answer);
                assert_eq!(made.dimensions(), (200, 100), "{kind}");
                is_red(&made, 5, 50);
            }
        }
        let answer = thumbnail(&rig, &alice, &id, (32, 32), "&animated=true").await.ok();
        assert_eq!(answer.header("content-type"), kind);
        assert!(answer.body == body, "{kind}");
    }
    let still = rig.upload(&alice, "image/jpeg", &encoded(&picture(900, 900), ImageFormat::Jpeg)).await;
    let made = decoded(thumbnail(&rig, &alice, &still, (32, 32), "&animated=true&method=crop").await);
    assert_eq!(made.dimensions(), (32, 32));
}

/// R41: what a picture claims is not believed to be affordable.
#[tokio::test]
async fn a_picture_that_claims_too_much_has_no_thumbnail() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let bombs = [
        claiming(encoded(&picture(10, 10), ImageFormat::Png), 100_000, 100_000),
        claiming(encoded(&picture(10, 10), ImageFormat::Png), 1 << 30, 1 << 30),
        jpeg_claiming(65_000, 65_000),
        gif_claiming(65_535, 65_535),
        in_scans(jpeg_claiming(5_000, 5_000)),
    ];
    for bomb in bombs {
        let id = rig.upload(&alice, "image/png", &bomb).await;
        let answer = thumbnail(&rig, &alice, &id, (32, 32), "&method=crop").await;
        assert_eq!(answer.error(), (413, "M_TOO_LARGE".to_owned()));
        assert!(rig.media(&alice, &format!("download/{id}")).await.ok().body == bomb);
    }
}

#[tokio::test]
async fn what_is_no_picture_has_no_thumbnail() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let mut broken = encoded(&picture(1_000, 1_000), ImageFormat::Jpeg);
    broken.truncate(100);
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>".to_vec();
    for body in [noise(1_000, 1), broken, svg, Vec::new(), b"GIF89a".to_vec(), b"\x89PNG\r\n\x1a\n".to_vec()]
    {
        let id = rig.upload(&alice, "image/png", &body).await;
        let answer = thumbnail(&rig, &alice, &id, (32, 32), "").await;
        assert_eq!(answer.error(), (400, "M_UNKNOWN".to_owned()), "{}", String::from_utf8_lossy(&body));
    }
    let id = rig.upload(&alice, "image/png", &encoded(&picture(99, 99), ImageFormat::Png)).await;
    for query in
        ["", "width=32", "width=-1&height=32", "width=a&height=b", "width=32&height=32&method=stretch"]
    {
        let answer = rig.media(&alice, &format!("thumbnail/{id}?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
    }
}

fn moving_gif(width: u32, height: u32) -> Vec<u8> {
    let mut gif = Vec::new();
    let mut encoder = GifEncoder::new(&mut gif);
    for _ in 0..3 {
        encoder.encode_frame(Frame::new(picture(width, height).into_rgba8())).unwrap();
    }
    drop(encoder);
    gif
}

/// A PNG with a second frame. <https://www.w3.org/TR/png-3/#apng-frame-based-animation>
fn moving_png(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8], data: &[u8]| {
        let checked = [kind, data].concat();
        let (length, checksum) = (data.len() as u32, crc32fast::hash(&checked));
        [&length.to_be_bytes()[..], &checked, &checksum.to_be_bytes()].concat()
    };
    let numbers =
        |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>();
    // Its number, its size, where it stands, how long it stays: a tenth of a second.
    let control = |number| [&numbers(&[number, width, height, 0, 0])[..], &[0, 1, 0, 10, 0, 0]].concat();
    let png = encoded(&picture(width, height), ImageFormat::Png);
    let (mut pixels, mut at) = (Vec::new(), 33);
    while at < png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        if &png[at + 4..at + 8] == b"IDAT" {
            pixels.extend_from_slice(&png[at + 8..at + 8 + length]);
        }
        at += 12 + length;
    }
    [
        &png[..33],
        &chunk(b"acTL", &numbers(&[2, 0])),
        &chunk(b"fcTL", &control(0)),
        &chunk(b"IDAT", &pixels),
        &chunk(b"fcTL", &control(1)),
        &chunk(b"fdAT", &[&numbers(&[2])[..], &pixels].concat()),
        &chunk(b"IEND", b""),
    ]
    .concat()
}

/// A WebP of two frames. <https://developers.google.com/speed/webp/docs/riff_container#animation>
fn moving_webp(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8], data: &[u8]| {
        let padding = &[0][..data.len() % 2];
        [kind, &(data.len() as u32).to_le_bytes(), data, padding].concat()
    };
    let size = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
    let size = [size(width), size(height)].concat();
    let webp = encoded(&picture(width, height), ImageFormat::WebP);
    let still = &webp[12..];
    let frame = chunk(b"ANMF", &[&[0; 6], &size[..], &[100, 0, 0, 0], still].concat());
    let extended = chunk(b"VP8X", &[&[0b10, 0, 0, 0], &size[..]].concat());
    let body = [b"WEBP", &extended[..], &chunk(b"ANIM", &[0; 6]), &frame, &frame].concat();
    chunk(b"RIFF", &body)
}

/// A PNG that says other things of its size; its checksum is right.
pub(crate) fn claiming(mut png: Vec<u8>, width: u32, height: u32) -> Vec<u8> {
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32fast::hash(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    png
}

pub(crate) fn jpeg_claiming(width: u16, height: u16) -> Vec<u8> {
    let mut jpeg = encoded(&picture(16, 16), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|window| window == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    jpeg
}

/// The same JPEG with a scan of its own for the first component, so that all of the picture is decoded at once.
pub(crate) fn in_scans(mut jpeg: Vec<u8>) -> Vec<u8> {
    let scan = jpeg.windows(2).position(|window| window == [0xff, 0xda]).unwrap();
    let (component, end) = (jpeg[scan + 5..scan + 7].to_vec(), scan + 14);
    jpeg.splice(scan..end, [&[0xff, 0xda, 0, 8, 1], &component[..], &[0, 63, 0]].concat());
    jpeg
}

fn gif_claiming(width: u16, height: u16) -> Vec<u8> {
    let mut gif = encoded(&picture(16, 16), ImageFormat::Gif);
    gif[6..8].copy_from_slice(&width.to_le_bytes());
    gif[8..10].copy_from_slice(&height.to_le_bytes());
    gif
}
