package config

import (
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// A Version is one published value of a key, as bytes.
type Version struct {
	Key      string    // the key
	Revision int64     // etcd's, of the transaction that published it
	Number   int64     // counts the versions of the key from 1
	Value    []byte    // not to be changed; nil of a tombstone
	Codec    string    // what Value is: json, text, bytes, or a codec of a user's own
	Deleted  bool      // a tombstone
	Author   string    // who published it
	Message  string    // and why
	Time     time.Time // by the clock of whoever published it
	Of       int64     // of a rollback: the revision whose value it is

	// Problem says why this is not what stands in etcd under the key but the
	// newest version of its history: [ErrMissing] or [ErrDamaged]. Nil as a rule.
	Problem error

	id string
}

// versionOf reads a version from an etcd key's value. The error is [ErrDamaged]
// with what is wrong.
func versionOf(key string, kv *mvccpb.KeyValue) (*Version, error) {
	r, err := decode(kv.Value)
	if err != nil {
		return nil, damaged(err)
	}
	v := r.version(key)
	v.Revision = kv.ModRevision
	return v, nil
}

func damaged(why error) error { return &problem{is: ErrDamaged, why: why} }

func (r record) version(key string) *Version {
	v := &Version{Key: key, Revision: r.Revision, Number: r.Number, Value: r.value, Codec: r.Codec, Deleted: r.Deleted,
		Author: r.Author, Message: r.Message, Time: r.Time, Of: r.Of, id: r.ID}
	if v.Deleted {
		v.Value = nil
	}
	return v
}

// A problem is one of this package's errors with what is behind it.
type problem struct{ is, why error }

func (p *problem) Error() string   { return p.is.Error() + ": " + p.why.Error() }
func (p *problem) Unwrap() []error { return []error{p.is, p.why} }
