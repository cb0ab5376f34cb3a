package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
)

// sector is what the size of a database is a multiple of, so that the digest behind it can be told from its absence.
const sector = 512

// A digester is written a whole snapshot and tells whether its last 32 bytes are the SHA-256 of what comes before.
type digester struct {
	sum  hash.Hash
	tail []byte // the last bytes so far, which may be the digest
	n    int64
}

func newDigester() *digester { return &digester{sum: sha256.New()} }

func (d *digester) Write(b []byte) (int, error) {
	d.n += int64(len(b))
	d.tail = append(d.tail, b...)
	if over := len(d.tail) - sha256.Size; over > 0 {
		d.sum.Write(d.tail[:over])
		d.tail = append(d.tail[:0], d.tail[over:]...)
	}
	return len(b), nil
}

func (d *digester) check() error {
	switch {
	case d.n%sector != sha256.Size:
		return fmt.Errorf("%w: no digest at its end", ErrDamaged)
	case !bytes.Equal(d.tail, d.sum.Sum(nil)):
		return fmt.Errorf("%w: its digest does not fit", ErrDamaged)
	}
	return nil
}

// verify checks the digest of the file path, until ctx ends.
func verify(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	d := newDigester()
	if _, err = io.Copy(d, whileLasts{ctx, f}); err == nil {
		err = d.check()
	}
	return errors.Join(err, f.Close())
}

// whileLasts reads until the context ends.
type whileLasts struct {
	ctx context.Context
	io.Reader
}

func (r whileLasts) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(b)
}

// tokenOf names the cluster that is made of the snapshot in the file path, on whatever machine it lies.
func tokenOf(path string) (token string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Seek(-sha256.Size, io.SeekEnd); err != nil {
		return "", err
	}
	digest := make([]byte, 8)
	if _, err := io.ReadFull(f, digest); err != nil {
		return "", err
	}
	return fmt.Sprintf("restored-%x", digest), nil
}
