//! Cameras of the operating system through nokhwa: V4L2, AVFoundation, Media Foundation. Runs in the helper process alone, since a driver
//! may hang or crash. Without the cargo feature `camera` there are none, and that is said.

#[cfg(feature = "camera")]
pub(crate) use with::{list, open};
#[cfg(not(feature = "camera"))]
pub(crate) use without::{list, open};

/// A camera of the system.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// Why there is none here that could be used, and what to do; none where one may be.
pub(crate) fn missing() -> Option<String> {
    if !cfg!(feature = "camera") {
        return Some(
            "this atoll-node was built without cameras of the system; build it with --features camera, or name a program in node.json"
                .to_owned(),
        );
    }
    missing_device()
}

#[cfg(target_os = "linux")]
fn missing_device() -> Option<String> {
    use rustix::fs::{Access, access};
    let paths = video_devices();
    if paths.is_empty() {
        return Some("there is no /dev/video*; connect a camera, or load its driver".to_owned());
    }
    let is_open = |path: &std::path::PathBuf| access(path, Access::READ_OK | Access::WRITE_OK).is_ok();
    if paths.iter().any(is_open) {
        return None;
    }
    Some(format!(
        "{} may not be opened by this user; add it to its group (sudo usermod -aG video $USER) and log in anew",
        paths[0].display()
    ))
}

/// The nodes that pictures come from: a camera has others for its notes, which are numbered from 1.
#[cfg(target_os = "linux")]
fn video_devices() -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir("/dev") else {
        return Vec::new();
    };
    let is_first = |name: &str| {
        let index = std::fs::read_to_string(format!("/sys/class/video4linux/{name}/index"));
        index.map_or(true, |index| index.trim() == "0")
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut numbers: Vec<u32> = names
        .filter(|name| name.starts_with("video") && is_first(name))
        .filter_map(|name| name.strip_prefix("video")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
        .iter()
        .map(|number| format!("/dev/video{number}").into())
        .collect()
}

#[cfg(not(target_os = "linux"))]
fn missing_device() -> Option<String> {
    None
}

#[cfg(not(feature = "camera"))]
mod without {
    use super::Found;
    use crate::capture::source::Source;
    use crate::capture::wire::Trouble;

    pub(crate) fn list() -> Result<Vec<Found>, Trouble> {
        Ok(Vec::new())
    }

    pub(crate) fn open(_id: &str, _width: u32) -> Result<Box<dyn Source>, Trouble> {
        Err(Trouble::unavailable(super::missing().unwrap_or_default()))
    }
}

#[cfg(feature = "camera")]
mod with {
    use nokhwa::pixel_format::RgbFormat;
    use nokhwa::utils::{ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType};
    use nokhwa::{Camera, NokhwaError};

    use super::Found;
    use crate::capture::picture::{Frame, Rgb};
    use crate::capture::source::Source;
    use crate::capture::wire::Trouble;

    /// Best first, of the same size.
    const FORMATS: [FrameFormat; 6] = [
        FrameFormat::MJPEG,
        FrameFormat::YUYV,
        FrameFormat::NV12,
        FrameFormat::RAWRGB,
        FrameFormat::RAWBGR,
        FrameFormat::GRAY,
    ];

    /// The pictures that a camera gives before it has found out how bright it is.
    const WARM_UP: u32 = 4;

    /// The longest that a person may take to answer the system's question.
    const ANSWER: std::time::Duration = std::time::Duration::from_secs(60);

    /// Asks the system for leave, where it wants to be asked.
    fn permitted() -> Result<(), Trouble> {
        if nokhwa::nokhwa_check() {
            return Ok(());
        }
        let (say, answer) = std::sync::mpsc::sync_channel(1);
        nokhwa::nokhwa_initialize(move |is_granted| {
            let _ = say.try_send(is_granted);
        });
        match answer.recv_timeout(ANSWER) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Trouble {
                code: Some("CAMERA_PERMISSION_REQUIRED".to_owned()),
                message: "the system does not let atoll-node use the camera; allow it in its privacy settings"
                    .to_owned(),
            }),
        }
    }

    pub(crate) fn list() -> Result<Vec<Found>, Trouble> {
        permitted()?;
        let found = nokhwa::query(ApiBackend::Auto)
            .map_err(|error| Trouble::unavailable(format!("the system does not list its cameras: {error}")))?;
        let mut cameras: Vec<Found> = found
            .iter()
            .map(|info| Found {
                id: id_of(info.index()),
                name: info.human_name(),
            })
            .collect();
        cameras.retain(|camera| is_camera(&camera.id));
        cameras.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(cameras)
    }

    #[cfg(target_os = "linux")]
    fn is_camera(id: &str) -> bool {
        super::video_devices().iter().any(|path| path.as_os_str() == id)
    }

    #[cfg(not(target_os = "linux"))]
    fn is_camera(_id: &str) -> bool {
        true
    }

    fn id_of(index: &CameraIndex) -> String {
        match index {
            CameraIndex::Index(number) if cfg!(target_os = "linux") => format!("/dev/video{number}"),
            CameraIndex::Index(_) | CameraIndex::String(_) => index.as_string(),
        }
    }

    fn index_of(id: &str) -> CameraIndex {
        match id.strip_prefix("/dev/video").unwrap_or(id).parse() {
            Ok(number) => CameraIndex::Index(number),
            Err(_) => CameraIndex::String(id.to_owned()),
        }
    }

    pub(crate) fn open(id: &str, width: u32) -> Result<Box<dyn Source>, Trouble> {
        let failed = |error: NokhwaError| {
            Trouble::unavailable(format!(
                "camera {id} does not open: {error}; is it plugged in, used by another program, or closed to this user?"
            ))
        };
        permitted()?;
        let request = |kind| RequestedFormat::with_formats(kind, &FORMATS);
        let mut first = Camera::new(index_of(id), request(RequestedFormatType::None)).map_err(failed)?;
        let offered = first.compatible_camera_formats().map_err(failed)?;
        let chosen = choose(&offered, width).unwrap_or_else(|| first.camera_format());
        drop(first);
        let mut camera = Camera::new(index_of(id), request(RequestedFormatType::Exact(chosen))).map_err(failed)?;
        camera.open_stream().map_err(failed)?;
        for _ in 0..WARM_UP {
            camera.frame_raw().map_err(failed)?;
        }
        Ok(Box::new(System {
            id: id.to_owned(),
            camera,
        }))
    }

    /// The smallest that is as wide as is wanted, else the widest; of that size the best format, then the one that comes nearest to 30
    /// pictures a second.
    fn choose(offered: &[CameraFormat], width: u32) -> Option<CameraFormat> {
        let rank = |format: &CameraFormat| FORMATS.iter().position(|known| *known == format.format());
        offered
            .iter()
            .filter(|format| rank(format).is_some())
            .copied()
            .min_by_key(|format| {
                let has = format.width();
                let is_narrow = has < width;
                let off = if is_narrow { width - has } else { has - width };
                (
                    is_narrow,
                    off,
                    u32::MAX - format.height(),
                    rank(format),
                    format.frame_rate().abs_diff(30),
                )
            })
    }

    struct System {
        id: String,
        camera: Camera,
    }

    impl Source for System {
        fn frame(&mut self) -> Result<Frame, Trouble> {
            let failed = |error: NokhwaError| {
                Trouble::unavailable(format!(
                    "camera {} gives no picture: {error}; is it still there?",
                    self.id
                ))
            };
            let buffer = self.camera.frame().map_err(failed)?;
            if buffer.source_frame_format() == FrameFormat::MJPEG {
                return Ok(Frame::Jpeg(buffer.buffer().to_vec()));
            }
            let image = buffer.decode_image::<RgbFormat>().map_err(failed)?;
            Ok(Frame::Rgb(Rgb {
                width: image.width(),
                height: image.height(),
                bytes: image.into_raw(),
            }))
        }

        fn is_live(&self) -> bool {
            true
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_size_comes_before_the_format() {
            let offered = [
                CameraFormat::new_from(640, 480, FrameFormat::MJPEG, 30),
                CameraFormat::new_from(1280, 720, FrameFormat::YUYV, 10),
                CameraFormat::new_from(1280, 720, FrameFormat::MJPEG, 60),
                CameraFormat::new_from(1280, 720, FrameFormat::MJPEG, 30),
                CameraFormat::new_from(1920, 1080, FrameFormat::YUYV, 5),
            ];
            for (width, expected) in [(100, 0), (640, 0), (641, 3), (1280, 3), (1600, 4), (4000, 4)] {
                assert_eq!(choose(&offered, width), Some(offered[expected]), "{width}");
            }
            assert_eq!(choose(&[], 640), None);
        }

        #[test]
        fn a_camera_that_is_not_there_is_said_not_to_be() {
            let error = open("/dev/video99", 640).err().expect("none");
            assert!(error.message.contains("/dev/video99"), "{}", error.message);
        }
    }
}
