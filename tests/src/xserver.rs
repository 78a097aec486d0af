//! A real X server without a screen of glass (Xvfb), and somebody who paints on it.

use std::path::Path;

use tokio::process::Command;
use x11rb::connection::Connection;
use x11rb::protocol::randr::{ConnectionExt as _, MonitorInfo};
use x11rb::protocol::xproto::{
    Char2b, ConnectionExt as _, CreateGCAux, CreateWindowAux, Drawable, ImageFormat, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;

use crate::program::Program;

/// Left, top, width, height.
pub type Area = (i16, i16, u16, u16);

/// Red, green and blue, as in `0xff8000`.
pub type Colour = u32;

/// One that every server brings along.
const FONT: &[u8] = b"fixed";

const WHITE: Colour = 0xFF_FF_FF;
const BLACK: Colour = 0;

/// A line of text, and the pixels that it is made of.
#[derive(Debug)]
pub struct Letters {
    text: String,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    baseline: i16,
    /// Which of them are ink, row by row.
    pub ink: Vec<bool>,
}

/// A running server on a display that nobody else has.
#[derive(Debug)]
pub struct XServer {
    program: Program,
    /// Its name, e.g. `:7`.
    pub display: String,
}

impl XServer {
    /// With these screens, each as width, height and depth, e.g. `800x600x24`.
    pub async fn start(screens: &[&str]) -> Self {
        Self::with(screens, &[]).await
    }

    /// One that only those who hold the file may look at.
    ///
    /// # Panics
    /// When the path is no text.
    pub async fn locked(screen: &str, authority: &Path) -> Self {
        Self::with(&[screen], &["-auth", authority.to_str().expect("text")]).await
    }

    async fn with(screens: &[&str], arguments: &[&str]) -> Self {
        let mut command = Command::new("Xvfb");
        // It says its number once it listens, and keeps what is painted when painters go.
        command
            .args(["-displayfd", "1", "-noreset", "-nolisten", "tcp"])
            .args(arguments);
        for (number, screen) in screens.iter().enumerate() {
            command.args(["-screen", &number.to_string(), screen]);
        }
        let program = Program::start("Xvfb", command);
        let display = program.number().await;
        Self {
            program,
            display: format!(":{display}"),
        }
    }

    /// The process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Somebody with a brush.
    ///
    /// # Panics
    /// When the server does not let them in.
    pub fn painter(&self) -> Painter {
        let (connection, _) = x11rb::connect(Some(&self.display)).expect("a running server");
        Painter { connection }
    }
}

/// What is painted is there when the call returns, and stays as long as the painter does.
#[derive(Debug)]
pub struct Painter {
    connection: RustConnection,
}

impl Painter {
    /// Covers an area of a screen with a colour, above everything else.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn paint(&self, screen: usize, area: Area, colour: Colour) -> Window {
        let connection = &self.connection;
        let root = connection.setup().roots[screen].root;
        let window = connection.generate_id().expect("a number");
        let (left, top, width, height) = area;
        let look = CreateWindowAux::new().background_pixel(colour).override_redirect(1);
        let class = WindowClass::INPUT_OUTPUT;
        connection
            .create_window(0, window, root, left, top, width, height, 0, class, 0, &look)
            .expect("sent");
        connection.map_window(window).expect("sent");
        self.settle();
        window
    }

    /// A line of text as the server's own font draws it.
    ///
    /// # Panics
    /// When the server has no fonts.
    pub fn letters(&self, text: &str) -> Letters {
        let connection = &self.connection;
        let font = connection.generate_id().expect("a number");
        connection.open_font(font, FONT).expect("sent");
        let characters: Vec<_> = text.bytes().map(|byte| Char2b { byte1: 0, byte2: byte }).collect();
        let measured = connection.query_text_extents(font, &characters).expect("sent");
        let measured = measured.reply().expect("a font");
        connection.close_font(font).expect("sent");
        let mut letters = Letters {
            text: text.to_owned(),
            width: u16::try_from(measured.overall_width).expect("short"),
            height: measured.font_ascent.strict_add(measured.font_descent).cast_unsigned(),
            baseline: measured.font_ascent,
            ink: Vec::new(),
        };
        letters.ink = self.drawn(&letters);
        letters
    }

    /// Writes it there, white on black, above everything else.
    pub fn write(&self, screen: usize, (left, top): (i16, i16), letters: &Letters) {
        let window = self.paint(screen, (left, top, letters.width, letters.height), BLACK);
        self.draw(window, letters);
        self.settle();
    }

    fn draw(&self, place: Drawable, letters: &Letters) {
        let connection = &self.connection;
        let [font, pen] = [(), ()].map(|()| connection.generate_id().expect("a number"));
        connection.open_font(font, FONT).expect("sent");
        let look = CreateGCAux::new().font(font).foreground(WHITE).background(BLACK);
        connection.create_gc(pen, place, &look).expect("sent");
        let text = letters.text.as_bytes();
        connection
            .image_text8(place, pen, 0, letters.baseline, text)
            .expect("sent");
        connection.free_gc(pen).expect("sent");
        connection.close_font(font).expect("sent");
    }

    /// Which pixels are ink, drawn where nobody sees it.
    fn drawn(&self, letters: &Letters) -> Vec<bool> {
        let connection = &self.connection;
        let screen = &connection.setup().roots[0];
        let (width, height) = (letters.width, letters.height);
        let sheet = connection.generate_id().expect("a number");
        connection
            .create_pixmap(screen.root_depth, sheet, screen.root, width, height)
            .expect("sent");
        self.draw(sheet, letters);
        let image = connection.get_image(ImageFormat::Z_PIXMAP, sheet, 0, 0, width, height, u32::MAX);
        let image = image.expect("sent").reply().expect("pixels");
        connection.free_pixmap(sheet).expect("sent");
        // 32 bits each: what is not black is ink.
        image.data.chunks_exact(4).map(|pixel| pixel[1] != 0).collect()
    }

    /// Puts the pointer there.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn point(&self, screen: usize, left: i16, top: i16) {
        let root = self.connection.setup().roots[screen].root;
        self.connection
            .warp_pointer(x11rb::NONE, root, 0, 0, 0, 0, left, top)
            .expect("sent");
        self.settle();
    }

    /// Divides a screen as if several of glass stood side by side.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn divide(&self, screen: usize, monitors: &[(&str, Area, bool)]) {
        let connection = &self.connection;
        let root = connection.setup().roots[screen].root;
        let outputs = connection.randr_get_screen_resources_current(root).expect("sent");
        let mut outputs = outputs.reply().expect("RandR").outputs.into_iter();
        for (name, (x, y, width, height), primary) in monitors {
            let atom = connection.intern_atom(false, name.as_bytes()).expect("sent");
            let monitor = MonitorInfo {
                name: atom.reply().expect("an atom").atom,
                primary: *primary,
                automatic: false,
                x: *x,
                y: *y,
                width: *width,
                height: *height,
                width_in_millimeters: 100,
                height_in_millimeters: 100,
                // Whoever takes the one that there is takes it from the monitor that covers all.
                outputs: outputs.next().into_iter().collect(),
            };
            let set = connection.randr_set_monitor(root, monitor).expect("sent");
            set.check().expect("a monitor");
        }
    }

    /// Returns when the server has done everything.
    fn settle(&self) {
        self.connection
            .get_input_focus()
            .expect("sent")
            .reply()
            .expect("an answer");
    }
}

/// What opens a server: everybody who has this file, and the server itself.
///
/// # Panics
/// When the file cannot be written.
pub fn authority(path: &Path, secret: [u8; 16]) {
    // Xau(3): a family (any), then address, display, name and secret, each with its length before it.
    let mut file = vec![0xFF, 0xFF];
    for field in [&b""[..], b"", b"MIT-MAGIC-COOKIE-1", &secret] {
        file.extend(u16::try_from(field.len()).expect("short").to_be_bytes());
        file.extend(field);
    }
    std::fs::write(path, file).expect("a writable folder");
}
