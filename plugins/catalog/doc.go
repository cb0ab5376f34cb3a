// Package catalog keeps the plugins of a host: which there are, where their files
// lie, and whether they are what the operator added.
//
// # Manifest
//
// A plugin is handed over as a folder with a plugin.yaml: its name and version,
// the services that it has, the type of its configuration, and a binary for each
// platform. [ReadFolder] reads it, and nothing is executed to learn what a plugin
// is. Only [Describe] runs a binary that has no manifest, to ask it for one: that
// is the act of an operator who trusts it, never of a host.
//
// # Pins
//
// Adding a plugin copies its manifest and descriptors into the host's plugin
// directory, its binary into the content store, and writes the SHA-256 of each
// into plugins.lock. A host runs what the lock names, with exactly those bytes, or
// refuses it and says why. Folders that the lock does not name are never run.
//
// # Content store
//
// A binary is executed from the store, under the name of its SHA-256: a file of
// mode 0500 in a directory of mode 0700, checked each time before it is started.
// Nobody but the host's own user can exchange it between the check and the start.
//
// # Signatures
//
// A manifest may be signed with an Ed25519 key, in minisign's format; it holds the
// SHA-256 of everything else. A policy says whether a host runs plugins that no
// trusted key has signed.
//
// # Failure
//
// Whatever is wrong with one plugin is the error of that plugin: [ErrNotAdded],
// [ErrChanged], [ErrMissing], [ErrManifest], [ErrSignature] or [ErrUnsupported].
// Others are not touched by it, and neither is the host.
package catalog
