package snapshot

import "errors"

var (
	// ErrDamaged means that a file is no whole snapshot: it was cut short or altered, or is something else.
	ErrDamaged = errors.New("not a whole snapshot")

	// ErrExists means that the target of a save or restore is there already. Nothing was changed.
	ErrExists = errors.New("exists already")

	// ErrInvalid means that a field of a configuration cannot work. The message names it.
	ErrInvalid = errors.New("invalid snapshot configuration")

	// ErrDiffers means that a trial restore did not give back what the snapshot holds.
	ErrDiffers = errors.New("the restored data differ from the snapshot")
)
