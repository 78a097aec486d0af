//! Screens of an X server, spoken to without any library of the system. Runs in the helper process alone, since a server may hang. Without
//! the cargo feature `screen` there are none, and that is said.

#[cfg(all(unix, feature = "screen"))]
pub(crate) use with::{list, open};
#[cfg(not(all(unix, feature = "screen")))]
pub(crate) use without::{list, open};

use crate::capture::picture::{Format, Size, finish};

/// A monitor.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Found {
    index: usize,
    name: String,
    x: i16,
    y: i16,
    width: u16,
    height: u16,
    primary: bool,
}

/// The picture of the first screen of an X display as `screen.snapshot` gives it, JPEG: the bare work, in this process.
///
/// # Errors
/// There is no such display, or no way to it.
pub fn grab(display: &str, max_width: u32) -> Result<Vec<u8>, String> {
    let frame = open(Some(display), 0).and_then(|mut screen| screen.frame());
    let size = Size {
        max_width,
        quality: 85,
        is_exact: false,
        format: Format::Jpeg,
    };
    let picture = finish(frame.map_err(|trouble| trouble.message)?, size)?;
    Ok(picture.bytes)
}

#[cfg(not(all(unix, feature = "screen")))]
mod without {
    use super::Found;
    use crate::capture::source::Source;
    use crate::capture::wire::Trouble;

    pub(crate) fn list() -> Result<Vec<Found>, Trouble> {
        Err(missing())
    }

    pub(crate) fn open(_display: Option<&str>, _index: u32) -> Result<Box<dyn Source>, Trouble> {
        Err(missing())
    }

    fn missing() -> Trouble {
        Trouble::unavailable("this atoll-node was built without X11")
    }
}

#[cfg(all(unix, feature = "screen"))]
mod with {
    use x11rb::connection::{Connection, RequestConnection};
    use x11rb::errors::{ConnectError, ConnectionError, ReplyError};
    use x11rb::protocol::ErrorKind;
    use x11rb::protocol::randr::{self, ConnectionExt as _};
    use x11rb::protocol::xfixes::{self, ConnectionExt as _, GetCursorImageReply};
    use x11rb::protocol::xproto::{ConnectionExt as _, ImageFormat, ImageOrder, Screen, VisualClass, Window};
    use x11rb::rust_connection::RustConnection;

    use super::Found;
    use crate::capture::picture::{Frame, PIXELS, Rgb};
    use crate::capture::source::Source;
    use crate::capture::wire::Trouble;
    use crate::screen::way::no_such;

    /// The first version of RandR that knows monitors.
    const MONITORS: (u32, u32) = (1, 5);

    /// A display, open.
    struct Display {
        name: String,
        connection: RustConnection,
        default_root: usize,
    }

    /// A monitor and where it is.
    struct Monitor {
        root: usize,
        found: Found,
    }

    impl Display {
        /// The one that `DISPLAY` names, when no other is named.
        fn open(display: Option<&str>) -> Result<Self, Trouble> {
            let named = || std::env::var("DISPLAY").unwrap_or_default();
            let name = display.map_or_else(named, str::to_owned);
            let (connection, default_root) = match x11rb::connect(display) {
                Ok(opened) => opened,
                Err(error) => return Err(not_opened(&name, &error)),
            };
            Ok(Self {
                name,
                connection,
                default_root,
            })
        }

        fn roots(&self) -> &[Screen] {
            &self.connection.setup().roots
        }

        /// Each monitor, the one where it begins first.
        fn monitors(&self) -> Result<Vec<Monitor>, Trouble> {
            let mut monitors = Vec::new();
            for (root, screen) in self.roots().iter().enumerate() {
                let mut found = self.monitors_of(screen.root)?;
                if found.is_empty() {
                    found.push(whole(screen));
                }
                monitors.extend(found.into_iter().map(|found| Monitor { root, found }));
            }
            monitors.sort_by_key(|monitor| (monitor.root != self.default_root, !monitor.found.primary));
            for (index, monitor) in monitors.iter_mut().enumerate() {
                monitor.found.index = index;
                monitor.found.primary = index == 0;
                if self.roots().len() > 1 {
                    monitor.found.name = format!("{} on X screen {}", monitor.found.name, monitor.root);
                }
            }
            Ok(monitors)
        }

        /// What RandR knows; nothing where the server has none.
        fn monitors_of(&self, root: Window) -> Result<Vec<Found>, Trouble> {
            let failed = |error| self.failed(error);
            let has_extension = self.connection.extension_information(randr::X11_EXTENSION_NAME);
            if has_extension.map_err(|error| self.lost(&error))?.is_none() {
                return Ok(Vec::new());
            }
            let version = self.connection.randr_query_version(MONITORS.0, MONITORS.1);
            let version = version.map_err(|error| self.lost(&error))?.reply().map_err(failed)?;
            if (version.major_version, version.minor_version) < MONITORS {
                return Ok(Vec::new());
            }
            let asked = self.connection.randr_get_monitors(root, true);
            let reply = asked.map_err(|error| self.lost(&error))?.reply().map_err(failed)?;
            let mut found = Vec::new();
            for monitor in reply.monitors {
                let name = self.connection.get_atom_name(monitor.name);
                let name = name.map_err(|error| self.lost(&error))?.reply().map_err(failed)?;
                found.push(Found {
                    index: 0,
                    name: String::from_utf8_lossy(&name.name).into_owned(),
                    x: monitor.x,
                    y: monitor.y,
                    width: monitor.width,
                    height: monitor.height,
                    primary: monitor.primary,
                });
            }
            Ok(found)
        }

        /// Whether the server tells what the pointer looks like.
        fn tells_cursor(&self) -> Result<bool, Trouble> {
            let has_extension = self.connection.extension_information(xfixes::X11_EXTENSION_NAME);
            if has_extension.map_err(|error| self.lost(&error))?.is_none() {
                return Ok(false);
            }
            let asked = self.connection.xfixes_query_version(5, 0);
            let version = asked.map_err(|error| self.lost(&error))?.reply();
            Ok(version.is_ok_and(|version| version.major_version >= 1))
        }

        fn lost(&self, error: &ConnectionError) -> Trouble {
            Trouble::unavailable(format!("the X server {} is gone: {error}", self.name))
        }

        fn failed(&self, error: ReplyError) -> Trouble {
            match error {
                ReplyError::ConnectionError(error) => self.lost(&error),
                ReplyError::X11Error(error) if error.error_kind == ErrorKind::Match => {
                    Trouble::unavailable("the screen was made smaller meanwhile; try again")
                }
                ReplyError::X11Error(error) => Trouble::unavailable(format!(
                    "the X server {} refused a request: {:?}",
                    self.name, error.error_kind
                )),
            }
        }
    }

    fn not_opened(name: &str, error: &ConnectError) -> Trouble {
        let refusal = if let ConnectError::SetupFailed(failed) = error {
            Some(&failed.reason)
        } else if let ConnectError::SetupAuthenticate(failed) = error {
            Some(&failed.reason)
        } else {
            None
        };
        let words = |reason: &Vec<u8>| String::from_utf8_lossy(reason).trim().to_owned();
        let said = refusal.map_or_else(|| error.to_string(), words);
        let step = if refusal.is_some() {
            "name the file that opens it in XAUTHORITY, or as screen.xauthority in node.json"
        } else {
            "is it running, and is its name right in DISPLAY, or in screen.display of node.json?"
        };
        Trouble::unavailable(format!("the X display \"{name}\" does not open: {said}; {step}"))
    }

    fn whole(screen: &Screen) -> Found {
        Found {
            index: 0,
            name: "screen".to_owned(),
            x: 0,
            y: 0,
            width: screen.width_in_pixels,
            height: screen.height_in_pixels,
            primary: true,
        }
    }

    pub(crate) fn list() -> Result<Vec<Found>, Trouble> {
        let monitors = Display::open(None)?.monitors()?;
        Ok(monitors.into_iter().map(|monitor| monitor.found).collect())
    }

    pub(crate) fn open(display: Option<&str>, index: u32) -> Result<Box<dyn Source>, Trouble> {
        let display = Display::open(display)?;
        let mut monitors = display.monitors()?;
        if index as usize >= monitors.len() {
            return Err(Trouble {
                code: Some("INVALID_REQUEST".to_owned()),
                message: no_such(index, monitors.len()),
            });
        }
        let Monitor { root, found } = monitors.swap_remove(index as usize);
        readable(&display, &display.roots()[root])?;
        if usize::from(found.width) * usize::from(found.height) > PIXELS {
            let Found { width, height, .. } = found;
            return Err(Trouble::unavailable(format!(
                "screen {index} has {width}x{height} pixels, which is too large"
            )));
        }
        Ok(Box::new(X11 {
            root: display.roots()[root].root,
            tells_cursor: display.tells_cursor()?,
            display,
            area: found,
        }))
    }

    /// Whether pixels come as four bytes: blue, green, red and one of no meaning.
    fn readable(display: &Display, screen: &Screen) -> Result<(), Trouble> {
        let setup = display.connection.setup();
        let depth = screen.root_depth;
        let bits = setup.pixmap_formats.iter().find(|format| format.depth == depth);
        let bits = bits.map_or(0, |format| format.bits_per_pixel);
        let visuals = screen.allowed_depths.iter().flat_map(|depth| &depth.visuals);
        let visual = visuals.clone().find(|visual| visual.visual_id == screen.root_visual);
        let is_usual = visual.is_some_and(|visual| {
            let masks = (visual.red_mask, visual.green_mask, visual.blue_mask);
            visual.class == VisualClass::TRUE_COLOR && masks == (0xFF_0000, 0xFF00, 0xFF)
        });
        if bits == 32 && is_usual && setup.image_byte_order == ImageOrder::LSB_FIRST {
            return Ok(());
        }
        Err(Trouble::unavailable(format!(
            "the X server {} shows {depth} bits of colour in {bits}, in an order that is not read here; set it to 24 bits, or name a \
             program in screen.commands of node.json",
            display.name
        )))
    }

    /// One monitor, looked at.
    struct X11 {
        display: Display,
        root: Window,
        area: Found,
        tells_cursor: bool,
    }

    impl Source for X11 {
        fn frame(&mut self) -> Result<Frame, Trouble> {
            let Found {
                x, y, width, height, ..
            } = self.area;
            let connection = &self.display.connection;
            let asked = connection.get_image(ImageFormat::Z_PIXMAP, self.root, x, y, width, height, u32::MAX);
            let image = asked.map_err(|error| self.display.lost(&error))?;
            // Asked for before the first answer is waited for.
            let cursor = self.ask_cursor()?;
            let image = image.reply().map_err(|error| self.display.failed(error))?;
            let mut bytes = Vec::with_capacity(image.data.len() / 4 * 3);
            for [blue, green, red, _] in image.data.as_chunks::<4>().0 {
                bytes.extend_from_slice(&[*red, *green, *blue]);
            }
            let mut rgb = Rgb {
                width: u32::from(width),
                height: u32::from(height),
                bytes,
            };
            if rgb.bytes.len() != usize::from(width) * usize::from(height) * 3 {
                return Err(Trouble::unavailable(
                    "the X server gave a picture of another size than it says",
                ));
            }
            if let Some(cursor) = cursor {
                draw(&mut rgb, &cursor, (i32::from(x), i32::from(y)));
            }
            Ok(Frame::Rgb(rgb))
        }
    }

    impl X11 {
        /// The pointer, where it can be told and is on this screen.
        fn ask_cursor(&self) -> Result<Option<GetCursorImageReply>, Trouble> {
            if !self.tells_cursor {
                return Ok(None);
            }
            let connection = &self.display.connection;
            let lost = |error| self.display.lost(&error);
            let pointer = connection.query_pointer(self.root).map_err(lost)?;
            let cursor = connection.xfixes_get_cursor_image().map_err(lost)?;
            let pointer = pointer.reply().map_err(|error| self.display.failed(error))?;
            let cursor = cursor.reply().map_err(|error| self.display.failed(error))?;
            Ok(pointer.same_screen.then_some(cursor))
        }
    }

    /// Lays the pointer over a picture whose left upper corner is at `corner`. Its colours are multiplied by how much they cover already.
    fn draw(rgb: &mut Rgb, cursor: &GetCursorImageReply, corner: (i32, i32)) {
        let left = i32::from(cursor.x) - i32::from(cursor.xhot) - corner.0;
        let top = i32::from(cursor.y) - i32::from(cursor.yhot) - corner.1;
        let width = usize::from(cursor.width).max(1);
        for (at, pixel) in cursor.cursor_image.iter().enumerate() {
            let (x, y) = (left + (at % width) as i32, top + (at / width) as i32);
            let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else {
                continue;
            };
            if x >= rgb.width || y >= rgb.height {
                continue;
            }
            let [blue, green, red, cover] = pixel.to_le_bytes();
            let place = (y as usize * rgb.width as usize + x as usize) * 3;
            for (below, above) in rgb.bytes[place..place + 3].iter_mut().zip([red, green, blue]) {
                let rest = u16::from(*below) * (255 - u16::from(cover)) / 255;
                *below = above.saturating_add(rest as u8);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_pointer_lies_over_the_picture_and_never_outside_of_it() {
            let mut cursor = GetCursorImageReply {
                x: 11,
                y: 21,
                width: 2,
                height: 2,
                xhot: 1,
                yhot: 1,
                cursor_image: vec![0xFF_FF0000, 0, 0x80_008000, 0xFF_0000FF],
                ..GetCursorImageReply::default()
            };
            let mut rgb = Rgb {
                width: 3,
                height: 3,
                bytes: vec![100; 27],
            };
            draw(&mut rgb, &cursor, (10, 20));
            let pixel = |x: usize, y: usize| &rgb.bytes[(y * 3 + x) * 3..][..3];
            assert_eq!((pixel(0, 0), pixel(1, 0)), (&[255, 0, 0][..], &[100; 3][..]));
            assert_eq!((pixel(0, 1), pixel(1, 1)), (&[49, 177, 49][..], &[0, 0, 255][..]));
            for (x, y) in [(-30_000, 0), (0, -5), (10, 20), (12, 22), (30_000, 30_000)] {
                (cursor.x, cursor.y) = (x, y);
                draw(&mut rgb, &cursor, (10, 20));
            }
        }
    }
}
