package catalog

import "errors"

// What can be wrong with a plugin. A message names the file or the field.
var (
	// ErrNotAdded: plugins.lock does not name the plugin that lies in the directory.
	ErrNotAdded = errors.New("was not added")
	// ErrChanged: a file is not the one that was added, or that a manifest names.
	ErrChanged = errors.New("is not what it should be")
	// ErrMissing: a file that was added is gone.
	ErrMissing = errors.New("is missing")
	// ErrManifest: the manifest, or what it describes, is not valid.
	ErrManifest = errors.New("invalid manifest")
	// ErrSignature: the policy wants a signature of a trusted key, and there is none.
	ErrSignature = errors.New("signature")
	// ErrUnsupported: the plugin is not for this platform, or speaks another protocol.
	ErrUnsupported = errors.New("unsupported")

	// ErrExists: a plugin of that name, or that version of it, was added before.
	ErrExists = errors.New("is there already")
	// ErrNotFound: there is no plugin of that name.
	ErrNotFound = errors.New("there is no such plugin")
	// ErrConfig: the host's plugins section is not valid.
	ErrConfig = errors.New("invalid configuration")
	// ErrTooLarge: a file is larger than a plugin's may be.
	ErrTooLarge = errors.New("too large")
)
