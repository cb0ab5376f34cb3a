package launcher

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What cannot be read now may be read later; what is gone, or another one, stays so.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "program")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	right, wrong := sha256.Sum256([]byte("x")), sha256.Sum256([]byte("y"))
	for name, c := range map[string]struct {
		path    string
		sum     []byte
		is      error
		forGood bool
	}{
		"right":       {file, right[:], nil, false},
		"not pinned":  {file, nil, nil, false},
		"another":     {file, wrong[:], ErrChecksum, true},
		"gone":        {filepath.Join(dir, "none"), right[:], ErrMissing, true},
		"a directory": {dir, right[:], os.ErrInvalid, false}, // which stands for what cannot be read
	} {
		err := verify(c.path, c.sum)
		switch {
		case c.is == nil && err != nil, c.is != nil && err == nil, permanent(err) != c.forGood:
			t.Errorf("%s: %v, for good %v", name, err, permanent(err))
		case c.is != nil && !errors.Is(c.is, os.ErrInvalid) && !errors.Is(err, c.is):
			t.Errorf("%s: %v, want %v", name, err, c.is)
		}
	}
}

// A message with other bytes than text could not be sent on: nobody would see the
// status of any recipe.
func TestWhatAProcessSaysIsText(t *testing.T) {
	for _, said := range []string{"\xff\xfe", strings.Repeat("é", maxWords), strings.Repeat("x\xff", maxWords)} {
		if got := plain(status.Error(codes.Unknown, said)).Error(); !utf8.ValidString(got) || got == "" || len(got) > maxWords+len("…") {
			t.Errorf("%d bytes, text %v", len(got), utf8.ValidString(got))
		}
	}
}
