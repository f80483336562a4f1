//! The table of settings: what each section's macro produces.

use std::borrow::Cow;

use heliograph_core::limits::Limits;

use super::{
    IceConfig, KeyConfig, ListenConfig, LoggingConfig, Mode, SessionConfig, StorageConfig, TokenConfig,
    limits,
};

/// Prefix of the environment variables.
pub(super) const PREFIX: &str = "HELIOGRAPH_";

/// How much of a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// All of it.
    Plain,
    /// All but the password in it. May come from a file.
    Masked,
    /// Nothing. May come from a file.
    Hidden,
}

/// What a setting is when nobody sets it.
#[derive(Debug, Clone, Copy)]
pub enum Preset {
    /// Nothing.
    Unset,
    /// This text.
    Is(&'static str),
    /// Another text in each mode.
    PerMode {
        /// In [`Mode::Dev`].
        dev: &'static str,
        /// In [`Mode::Serve`].
        serve: &'static str,
    },
    /// What the core says.
    Limit(fn(&Limits) -> String),
}

impl Preset {
    /// The text in `mode`.
    pub fn text(self, mode: Mode) -> Option<Cow<'static, str>> {
        match self {
            Self::Unset => None,
            Self::Is(text) => Some(text.into()),
            Self::PerMode { dev, .. } if mode == Mode::Dev => Some(dev.into()),
            Self::PerMode { serve, .. } => Some(serve.into()),
            Self::Limit(show) => Some(show(&Limits::default()).into()),
        }
    }
}

/// Another name of a setting's environment variable, for installations that move over from the original.
#[derive(Debug, Clone, Copy)]
pub struct Alias {
    /// The variable.
    pub name: &'static str,
    /// From its text to the setting's.
    pub rewrite: fn(&str) -> String,
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key in the file.
    pub key: &'static str,
    /// What it means, in Markdown, as the source's documentation has it.
    pub(super) doc: &'static str,
    /// The words for its type.
    pub kind: fn() -> String,
    /// How much of its value may be shown.
    pub exposure: Exposure,
    /// Its value when nobody sets it.
    pub default: Preset,
    /// Other environment variables for it.
    pub aliases: &'static [Alias],
}

impl Setting {
    /// Its environment variable.
    pub fn environment(&self) -> String {
        format!("{PREFIX}{}", self.key.to_uppercase())
    }

    /// Whether its value may also come from a file that `<key>_file` or `<ENVIRONMENT>_FILE` names.
    pub fn is_secret(&self) -> bool {
        self.exposure != Exposure::Plain
    }

    /// What it means, in Markdown, on one line.
    pub fn meaning(&self) -> String {
        self.doc.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// A section's settings under its title.
#[derive(Debug, Clone, Copy)]
pub struct SectionTable {
    /// The heading.
    pub title: &'static str,
    /// The settings in their order.
    pub settings: &'static [Setting],
}

/// All sections in the order of the reference.
pub fn sections() -> [SectionTable; 8] {
    [
        ListenConfig::TABLE,
        StorageConfig::TABLE,
        TokenConfig::TABLE,
        KeyConfig::TABLE,
        SessionConfig::TABLE,
        limits::TABLE,
        IceConfig::TABLE,
        LoggingConfig::TABLE,
    ]
}

/// All settings in the order of the reference.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    sections().into_iter().flat_map(|section| section.settings)
}

/// The text as it is, for aliases that are only another name.
pub(super) fn same(text: &str) -> String {
    text.to_owned()
}

/// Makes a section from its table: the struct, [`SectionTable`] and reading.
macro_rules! section {
    (
        $title:literal;
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $type:ty = $default:expr $(, also $alias:literal via $rewrite:path)*;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $key: $type, )+
        }

        impl $name {
            pub(super) const TABLE: $crate::config::setting::SectionTable = {
                use $crate::config::setting::{SectionTable, Setting};
                use $crate::config::value::FromText;
                SectionTable {
                    title: $title,
                    settings: &[$(
                        Setting {
                            key: stringify!($key),
                            doc: concat!($($doc, "\n"),+),
                            kind: <$type as FromText>::kind,
                            exposure: <$type as FromText>::EXPOSURE,
                            default: $default,
                            aliases: &[$($crate::config::setting::Alias { name: $alias, rewrite: $rewrite }),*],
                        }
                    ),+],
                }
            };

            /// Every field is read before the first unusable one ends it, so that all problems are found.
            pub(super) fn read(reader: &mut $crate::config::source::Reader<'_>) -> Option<Self> {
                $( let $key = reader.get::<$type>(stringify!($key)); )+
                Some(Self { $( $key: $key?, )+ })
            }
        }
    };
}
pub(super) use section;
