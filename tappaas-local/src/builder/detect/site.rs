use super::{Ground, Listing, Plan};

/// Where the file server is, seen from the site, in whose folder it is started. Its own folder is hidden, so it is not served.
pub(in crate::builder) const FILE_SERVER: &str = ".tappaas/fileserver";

/// A folder of files with an `index.html` at its top, or in `public` or `dist`.
pub(super) fn plan(listing: &Listing) -> Option<Plan> {
    let holds_index = |folder: &&str| match *folder {
        "" => listing.has("index.html"),
        folder => listing.has(&format!("{folder}/index.html")),
    };
    let folder = ["", "public", "dist"].into_iter().find(holds_index)?;
    Some(Plan {
        detected: match folder {
            "" => "static site".to_owned(),
            folder => format!("static site in {folder}"),
        },
        ground: Ground::FileServer { folder },
        ..Plan::default()
    })
}
