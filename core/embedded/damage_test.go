//go:build unix

package embedded_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
)

func dbPath(dir string) string { return filepath.Join(dir, "member", "snap", "db") }

func walPath(t *testing.T, dir string) string {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no log in %s: %v", dir, err)
	}
	return logs[0]
}

// damage is one way in which a file of a member can be broken.
type damage struct {
	file   func(t *testing.T, dir string) string
	change func([]byte) []byte
}

func damages() map[string]damage {
	db := func(_ *testing.T, dir string) string { return dbPath(dir) }
	header := 2 * os.Getpagesize()
	return map[string]damage{
		"database cut in half":                    {db, func(b []byte) []byte { return b[:len(b)/2] }},
		"database without its last page":          {db, func(b []byte) []byte { return b[:used(b)-int64(os.Getpagesize())] }},
		"database cut inside its header":          {db, func(b []byte) []byte { return b[:100] }},
		"database empty":                          {db, func([]byte) []byte { return nil }},
		"database header zeroed":                  {db, func(b []byte) []byte { clear(b[:header]); return b }},
		"database pages zeroed behind the header": {db, func(b []byte) []byte { clear(b[header:]); return b }},
		"database buckets zeroed":                 {db, zeroBuckets},
		"log with a flipped bit":                  {walPath, func(b []byte) []byte { b[bytes.Index(b, []byte("k010"))] ^= 1; return b }},
	}
}

// used returns how many bytes of a database bbolt counts on: its file may be longer. The number of pages stands in both headers, at 56.
func used(db []byte) int64 {
	pages := binary.NativeEndian.Uint64(db[56:])
	return int64(max(pages, binary.NativeEndian.Uint64(db[os.Getpagesize()+56:]))) * int64(os.Getpagesize())
}

// zeroBuckets leaves the page that lists the buckets, whose number stands in each header at 32, and clears every other.
func zeroBuckets(db []byte) []byte {
	size := os.Getpagesize()
	kept := map[uint64]bool{0: true, 1: true}
	for _, header := range []int{0, size} {
		kept[binary.NativeEndian.Uint64(db[header+32:])] = true
	}
	for at := 0; at+size <= len(db); at += size {
		if !kept[uint64(at/size)] {
			clear(db[at : at+size])
		}
	}
	return db
}

// A damaged directory must end a start with a message, not the process with a panic: each case runs in a process of its own.
func TestDamagedDataIsNamedAndLeftAlone(t *testing.T) {
	for name, d := range damages() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir)
			path := d.file(t, dir)
			damaged := d.change(read(t, path))
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			p := coretest.Child(t, "try", dirEnv+"="+dir)
			said := p.ExpectLine("error")
			if !strings.Contains(said, dir) || !strings.Contains(said, embedded.ErrCorrupt.Error()) {
				t.Errorf("message %q", said)
			}
			if code, err := p.Wait(t.Context()); code != 0 || err != nil {
				t.Errorf("exit code %d, %v", code, err)
			}
			if !bytes.Equal(read(t, path), damaged) {
				t.Error("the damaged file was changed")
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fill leaves a member's directory with some data in it.
func fill(t *testing.T, dir string) {
	t.Helper()
	m, err := embedded.Start(t.Context(), config(dir))
	if err != nil {
		t.Fatal(err)
	}
	value := strings.Repeat("x", 10<<10)
	var all error
	for i := range 20 {
		_, err := m.Client().Put(t.Context(), fmt.Sprintf("k%03d", i), value)
		all = errors.Join(all, err)
	}
	if err := errors.Join(all, m.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestDatabaseOpenInAForeignProgram(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir)
	db, err := bolt.Open(dbPath(dir), 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	refuse(t, config(dir), embedded.ErrDataDirInUse, dbPath(dir))
}
