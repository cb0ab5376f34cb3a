package config

import (
	"errors"
	"time"
)

// A Snapshot is what a program is configured with at one moment. It is shared by
// everybody who looks at it and must not be changed, nor what Value points to.
type Snapshot[T any] struct {
	// Value is the last good value; the default if there is none.
	Value T
	// Revision is etcd's of the version that Value comes from; 0 if it is the
	// default.
	Revision int64
	// Rejected says why Value is not what was published last: that one does not
	// decode or pass the check ([ErrRejected]), was deleted by a tombstone while
	// the program has no default ([ErrDeleted]), or vanished or was overwritten by
	// hand ([ErrMissing], [ErrDamaged]). Nil if all is well.
	Rejected error
	// RejectedRevision is the revision of the version that was rejected, if it was
	// one.
	RejectedRevision int64
	// Stale says that Value may be older than what is in etcd: it is from the file
	// of WithFallbackFile, or nothing has been heard from etcd for 15 s.
	Stale bool
	// Deleted says that the key was deleted by a tombstone.
	Deleted bool
	// Candidate says that Value is that of a rollout, which this instance tries.
	// Revision then names the rollout.
	Candidate bool

	Number  int64     // of the version, or the tombstone, counted from 1; 0 if there is none
	Author  string    // who published it
	Message string    // and why
	Time    time.Time // and when, by the publisher's clock
}

// of makes the snapshot of a version whose value is good.
func of[T any](v *Version, value T) *Snapshot[T] {
	return &Snapshot[T]{Value: value, Revision: v.Revision, Number: v.Number, Author: v.Author, Message: v.Message, Time: v.Time, Deleted: v.Deleted}
}

// same reports whether two snapshots say the same. Values of one revision are the
// same value.
func (s *Snapshot[T]) same(other *Snapshot[T]) bool {
	return s.Revision == other.Revision && s.Number == other.Number && s.Candidate == other.Candidate && s.Stale == other.Stale &&
		s.Deleted == other.Deleted && s.RejectedRevision == other.RejectedRevision && text(s.Rejected) == text(other.Rejected)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// reject says why a version is not what the snapshot has.
func (s *Snapshot[T]) reject(v *Version, why error) {
	s.Deleted, s.Rejected, s.RejectedRevision = v.Deleted, why, 0
	switch {
	case v.Value != nil || v.Deleted:
		s.RejectedRevision = v.Revision
	case errors.Is(why, ErrNotFound) && s.Revision > 0: // of a copy on disk
		s.Rejected = ErrMissing
	case errors.Is(why, ErrNotFound):
		s.Rejected = nil // never set: the default is what it should be
	}
}

// decoder turns the bytes of versions into good values.
type decoder[T any] struct {
	options

	fallback T
	hasValue bool // there is a default
	validate func(T) error
}

func newDecoder[T any](o options) (decoder[T], error) {
	d := decoder[T]{options: o, validate: func(T) error { return nil }}
	if o.value != nil {
		v, ok := o.value.(T)
		if !ok {
			return d, invalid("default: is a %T, the variable has %T", o.value, *new(T))
		}
		d.fallback, d.hasValue = v, true
	}
	if o.check != nil {
		check, ok := o.check.(func(T) error)
		if !ok {
			return d, invalid("validate: is a %T, not a %T", o.check, d.validate)
		}
		d.validate = check
	}
	if !d.hasValue {
		return d, nil
	}
	if err := d.pass(d.fallback); err != nil {
		return d, invalid("default: does not pass the check: %w", err)
	}
	return d, nil
}

// value decodes and checks what a version says. The error is [ErrRejected].
func (d *decoder[T]) value(v *Version) (value T, err error) {
	if err = contain(func() error { return d.codec.Decode(v.Value, &value) }); err == nil {
		err = d.pass(value)
	}
	if err != nil {
		return *new(T), &problem{is: ErrRejected, why: err}
	}
	return value, nil
}

// encode checks a value and makes its bytes. The error is core.ErrInvalid.
func (d *decoder[T]) encode(value T) ([]byte, error) {
	if err := d.pass(value); err != nil {
		return nil, invalid("value: does not pass the check: %w", err)
	}
	data, err := d.codec.Encode(value)
	if err != nil {
		return nil, invalid("value: %w", err)
	}
	return data, nil
}

func (d *decoder[T]) pass(value T) error {
	return contain(func() error { return d.validate(value) })
}

// errPanic is what is told of a panic: its value may hold the configuration's.
var errPanic = errors.New("the check panicked")

// contain turns a panic of a user's function into an error: it would else end,
// through a value, every program that is configured with it.
func contain(f func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errPanic
		}
	}()
	return f()
}
