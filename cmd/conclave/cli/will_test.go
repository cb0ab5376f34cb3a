package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// named is a session of which only the name matters.
type named struct{ session }

func (named) ID() string { return "a session" }

// A guard runs in the root directory, where the paths that a user gave mean
// nothing: without its certificates it could not end the session.
func TestWillNamesFilesFromTheRoot(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	a := &app{flags: globals{cacert: "ca.pem", cert: "/etc/cert.pem"}}
	text, err := a.will(target{api: []string{"https://localhost:2378"}}, named{})
	if err != nil {
		t.Fatal(err)
	}
	var w will
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		t.Fatal(err)
	}
	if w.CACert != filepath.Join(here, "ca.pem") || w.Cert != "/etc/cert.pem" || w.Key != "" || w.Session != "a session" {
		t.Errorf("%+v", w)
	}
}
