package catalog

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Signatures that minisign itself has made, over the file "test": the older form and
// the one over the file's BLAKE2b.
const (
	minisignKey = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
	minisignOld = `untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966	file:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==
`
	minisignNew = `untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335	file:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==
`
)

func TestWhatMinisignSigned(t *testing.T) {
	key, err := ParsePublicKey(minisignKey)
	if err != nil {
		t.Fatal(err)
	}
	if key.String() != minisignKey {
		t.Errorf("printed as %s", key)
	}
	for name, signature := range map[string]string{"old": minisignOld, "new": minisignNew, "with carriage returns": strings.ReplaceAll(minisignNew, "\n", "\r\n")} {
		if k, err := verify([]byte("test"), []byte(signature), []PublicKey{key}); err != nil || k.ID() != key.ID() {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := verify([]byte("Test"), []byte(signature), []PublicKey{key}); !errors.Is(err, ErrSignature) {
			t.Errorf("%s, of another message: %v", name, err)
		}
	}
}

func TestSignatures(t *testing.T) {
	k, err := NewSecretKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewSecretKey()
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("name: jobs\n")
	good := k.Sign(message, "jobs 1.2.0")
	trusted := []PublicKey{other.Public(), k.Public()}
	if by, err := verify(message, good, trusted); err != nil || by.ID() != k.Public().ID() {
		t.Fatalf("by %s, %v", by.ID(), err)
	}
	impostor := other
	impostor.id = k.id
	for name, signature := range map[string][]byte{
		"of another key":             other.Sign(message, "jobs 1.2.0"),
		"of another key, of that id": impostor.Sign(message, "jobs 1.2.0"),
		"with another comment":       bytes.Replace(good, []byte("1.2.0"), []byte("1.3.0"), 1),
		"empty":                      {},
		"cut":                        good[:len(good)/2],
		"of another algorithm":       bytes.Replace(good, []byte("\nRU"), []byte("\nRX"), 1),
	} {
		if _, err := verify(message, signature, []PublicKey{k.Public()}); !errors.Is(err, ErrSignature) {
			t.Errorf("a signature %s: %v", name, err)
		}
	}
}

func TestSecretKeysOnDisk(t *testing.T) {
	k, err := NewSecretKey()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(k.File())
	again, err := ReadSecretKey(file)
	if err != nil || !again.key.Equal(k.key) || again.id != k.id {
		t.Fatalf("read again: %v", err)
	}
	if p, err := ParsePublicKey(string(k.Public().File())); err != nil || p.ID() != k.Public().ID() {
		t.Errorf("the public half: %v", err)
	}
	for name, change := range map[string]struct {
		at   int
		want string
	}{"encrypted": {2, "is encrypted"}, "a flipped bit": {secretHead + idSize + 3, "is damaged"}, "another algorithm": {0, "is not a secret key"}} {
		body := decoded(t, k.File())
		body[change.at] ^= 1
		write(encoded(body))
		if _, err := ReadSecretKey(file); err == nil || !strings.Contains(err.Error(), change.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A lock file from elsewhere cannot have a binary run that nobody signed.
func TestTheSignatureIsOverTheBinaryToo(t *testing.T) {
	k, err := NewSecretKey()
	must(t, err)
	c, data := newCatalog(t, Config{Keys: []string{k.Public().String()}})
	p := add(t, c, newFolder(t, "jobs", "1.2.0").sign(k))
	other := []byte("#!/bin/sh\n# nobody signed it\n")
	must(t, os.WriteFile(filepath.Join(data, "store", string(SumOf(other))), other, 0o500))
	lock := filepath.Join(data, "plugins", LockName)
	text, err := os.ReadFile(lock)
	must(t, err)
	must(t, os.WriteFile(lock, bytes.ReplaceAll(text, []byte(p.Pin.SHA256), []byte(SumOf(other))), 0o600))
	if e := only(t, c); !errors.Is(e.Err, ErrChanged) || !strings.Contains(e.Err.Error(), LockName) {
		t.Errorf("got %+v", e)
	}
}
