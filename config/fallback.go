package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// errOther says that a copy on disk is not of the key.
var errOther = errors.New("it is the copy of another key")

// readCopy reads the copy of a key from disk.
func (o *options) readCopy(key string) (*Version, error) {
	data, err := os.ReadFile(o.fallback)
	if err != nil {
		return nil, fmt.Errorf("copy on disk: %w", err)
	}
	r, err := decode(data)
	if err == nil && (r.Key != key || r.Namespace != o.namespace) {
		err = errOther
	}
	if err != nil {
		return nil, fmt.Errorf("copy on disk: %s: %w", o.fallback, err)
	}
	return r.version(key), nil
}

// writeCopy replaces the copy on disk by a version. Whoever reads the file sees
// the old copy or the new one, whatever dies meanwhile.
func (o *options) writeCopy(v *Version) error {
	data, err := record{value: v.Value, header: header{Namespace: o.namespace, Key: v.Key, Revision: v.Revision, Number: v.Number, Codec: v.Codec,
		Deleted: v.Deleted, Author: v.Author, Message: v.Message, Time: v.Time, ID: v.id, Of: v.Of}}.encode()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(o.fallback), "."+filepath.Base(o.fallback)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), o.fallback)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
