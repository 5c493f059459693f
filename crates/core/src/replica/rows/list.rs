//! What follows from the list of kinds.

/// Makes [`RowKey`](super::RowKey), [`Row`](super::Row), [`KeyPlace`](super::KeyPlace) and what depends on the kind
/// of a row out of lines of the form `accessor: Kind(part: Type, ...) => Row;`, in the order of the kinds' octets. The parts are
/// those of the key, each a [`KeyPart`](super::KeyPart); the row implements [`Kind`](super::Kind).
macro_rules! kinds {
    ($(
        #[doc = $doc:literal]
        $accessor:ident: $Kind:ident $(($($part:ident: $Part:ty),+))? => $Row:ty;
    )+) => {
        /// Which row of a node's history. Keys are in the order of their octets, so that agents that do not know the
        /// same kinds agree on the order.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum RowKey {
            $(#[doc = $doc] $Kind $(($($Part),+))?,)+
            /// A row of a kind that only newer versions know: the octets of the key.
            Other(Arc<[u8]>),
        }

        /// What a row holds. Readers look at [`Row::known`], or ask for a row of one kind.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Row {
            $(#[doc = $doc] $Kind(Arc<$Row>),)+
            /// A row of one of the kinds above, with fields that only newer versions know.
            Newer(Arc<NewerRow>),
            /// A row of a kind that only newer versions know: its octets.
            Other(Arc<Box<[u8]>>),
        }

        /// The place of a key among others: what its octets are compared by.
        #[derive(PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum KeyPlace<'a> {
            $($Kind $(($(<$Part as KeyPart>::Place<'a>),+))?,)+
            Other(&'a [u8]),
        }

        /// The order of the variants is that of the octets, also between a kind that is known and one that is not.
        const _: () = {
            let octets = [$(<$Row as Kind>::OCTET),+];
            let mut at = 0;
            while at < octets.len() {
                assert!(octets[at] as usize == at, "kinds are listed by their octets, without a gap");
                at += 1;
            }
        };

        impl RowKey {
            /// Appends the octets of the key. Their order is that of the keys.
            pub fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$Kind $(($($part),+))? => {
                        out.push(<$Row as Kind>::OCTET);
                        $($($part.encode(out);)+)?
                    })+
                    Self::Other(octets) => out.extend_from_slice(octets),
                }
            }

            fn decode(octets: &[u8]) -> Result<Self, RowProblem> {
                let (kind, rest) = octets.split_first().ok_or(RowProblem::Empty)?;
                let (key, rest) = match *kind {
                    $(<$Row as Kind>::OCTET => {
                        $($(let ($part, rest) = <$Part as KeyPart>::decode(rest)?;)+)?
                        (Self::$Kind $(($($part),+))?, rest)
                    })+
                    _ => return Ok(Self::Other(octets.into())),
                };
                if rest.is_empty() { Ok(key) } else { Err(RowProblem::TooMany(rest.len())) }
            }

            pub(super) fn place(&self) -> KeyPlace<'_> {
                match self {
                    $(Self::$Kind $(($($part),+))? => KeyPlace::$Kind $(($($part.place()),+))?,)+
                    Self::Other(octets) => KeyPlace::Other(octets),
                }
            }

            /// Whether a state is of the kind that this key names, and says the same as the key.
            #[must_use]
            pub fn fits(&self, state: &RowState) -> bool {
                let Some(row) = state.present() else { return true };
                match (self, row) {
                    $((Self::$Kind { .. }, Row::$Kind(row)) => row.fits(self),)+
                    (Self::Other(_), Row::Other(_)) => true,
                    _ => false,
                }
            }

            fn is_bad_news_when_gone(&self) -> bool {
                match self {
                    $(Self::$Kind { .. } => <$Row as Kind>::IS_BAD_NEWS_WHEN_GONE,)+
                    Self::Other(_) => false,
                }
            }

            fn approx_octets(&self) -> usize {
                match self {
                    $(Self::$Kind $(($($part),+))? => 1 $($(+ $part.approx_octets())+)?,)+
                    Self::Other(octets) => octets.len(),
                }
            }
        }

        impl Row {
            $(
                /// What is known of the row, if it is of this kind.
                #[must_use]
                pub fn $accessor(&self) -> Option<&Arc<$Row>> {
                    if let Self::$Kind(row) = self.known() { Some(row) } else { None }
                }
            )+

            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$Kind(row) => {
                        out.push(<$Row as Kind>::OCTET);
                        row.encode(out);
                    })+
                    Self::Newer(newer) => {
                        newer.known.encode(out);
                        out.extend_from_slice(&newer.rest);
                    }
                    Self::Other(octets) => out.extend_from_slice(octets),
                }
            }

            /// Reads a row of a known kind, with the octets behind what is known of it.
            fn decode_known<'a>(
                kind: u8,
                fields: &'a [u8],
                key: &RowKey,
                decoder: &mut RowDecoder,
            ) -> Result<Option<(Self, &'a [u8])>, RowProblem> {
                Ok(match kind {
                    $(<$Row as Kind>::OCTET => {
                        let (row, rest) = <$Row as Kind>::decode(fields, key, decoder)?;
                        Some((Self::$Kind(row), rest))
                    })+
                    _ => None,
                })
            }

            fn is_bad_news(&self) -> bool {
                match self.known() {
                    $(Self::$Kind(row) => row.is_bad_news(),)+
                    Self::Newer(_) | Self::Other(_) => false,
                }
            }

            fn approx_octets(&self) -> usize {
                match self {
                    $(Self::$Kind(row) => row.approx_size(),)+
                    Self::Newer(newer) => newer.known.approx_octets() + newer.rest.len(),
                    Self::Other(octets) => octets.len() + 1,
                }
            }
        }

        $(
            impl From<$Row> for Row {
                fn from(row: $Row) -> Self {
                    Self::$Kind(Arc::new(row))
                }
            }
        )+
    };
}
