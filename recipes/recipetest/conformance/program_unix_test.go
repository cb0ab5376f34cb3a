//go:build unix

package conformance

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/recipe"
)

// script returns a program of a few lines.
func script(t *testing.T, text string) Program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	return Program{Path: path}
}

// TestSeededPrograms gives the checks of programs some that break what they check.
func TestSeededPrograms(t *testing.T) {
	for name, tt := range map[string]struct {
		check, text string
		detail      string // a part of what the check says; empty: it passes
	}{
		"ends as if done":      {"by-hand", "echo plugin; exit 0", "code 0"},
		"serves a hand":        {"by-hand", "exec sleep 600", "does not end"},
		"says nothing":         {"by-hand", "exit 1", "does not say"},
		"dies":                 {"by-hand", "kill -9 $$", "it dies"},
		"tells what it is":     {"by-hand", "echo this is a Plugin >&2; exit 1", ""},
		"speaks anything":      {"protocol", `echo "1|$PLUGIN_PROTOCOL_VERSIONS|unix|/x|grpc|"; exec sleep 600`, "which nobody speaks"},
		"is no plugin":         {"protocol", "echo hello; exec sleep 600", "no handshake"},
		"leaves without word":  {"protocol", "exit 1", "without a word"},
		"leaves with a word":   {"protocol", "echo I speak 1 >&2; exit 1", ""},
		"knows what it speaks": {"protocol", `echo "1|1|unix|/x|grpc|"; exec sleep 600`, ""},
	} {
		t.Run(tt.check+"/"+name, func(t *testing.T) {
			subject := InProcessSubject(sown{})
			subject.carrier, subject.program = Subprocess, &plugged{Program: script(t, tt.text)}
			r := runOne(t, subject, tt.check)
			if want := outcomeOf(tt.detail); r.Outcome != want || !strings.Contains(r.Detail, tt.detail) {
				t.Errorf("%s: %q, want %s with %q", r.Outcome, r.Detail, want, tt.detail)
			}
		})
	}
}

func outcomeOf(detail string) Outcome {
	if detail == "" {
		return Passed
	}
	return Failed
}

// A process that goes on without its host is found, and ended.
func TestSeededSurvivor(t *testing.T) {
	host := script(t, "sleep 600 >/dev/null 2>&1 & echo $!; exec sleep 600")
	s, err := New(t.Context(), InProcessSubject(sown{}), Config{Host: &host, Patience: impatience})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	s.subject.program = &plugged{}
	for _, c := range Checks() {
		if c.Name != "host-loss" {
			continue
		}
		if r := s.Run(t.Context(), c); r.Outcome != Failed || !strings.Contains(r.Detail, "without its host its process") {
			t.Errorf("%s: %q", r.Outcome, r.Detail)
		}
	}
}

// frozen is a recipe whose callers lose what they own while it stands still.
type frozen struct {
	local

	wipe func() error
}

func (f frozen) faults() faults {
	all := f.local.faults()
	all.pause, all.resume = f.wipe, func() error { return nil }
	return all
}

func TestSeededPause(t *testing.T) {
	subject := InProcessSubject(sown{})
	subject.run = func(ctx context.Context, s *Suite, with probing) (runner, error) {
		return frozen{local{newProbe(sown{}, with)}, func() error {
			resp, err := s.etcd.Client().Get(ctx, "/conclave/default/lock/", clientv3.WithPrefix())
			if err != nil {
				return err
			}
			for _, kv := range resp.Kvs {
				_, deleted := s.etcd.Client().Delete(ctx, string(kv.Key))
				err = errors.Join(err, deleted)
			}
			return err
		}}, nil
	}
	if r := runOne(t, subject, "pause"); r.Outcome != Failed || !strings.Contains(r.Detail, "attached to the session's lease") {
		t.Errorf("%s: %q", r.Outcome, r.Detail)
	}
}

// What a program says of itself may not differ from what its manifest says.
func TestSeededManifest(t *testing.T) {
	subject := InProcessSubject(sown{})
	subject.again = func(context.Context) (recipe.Info, error) {
		i := sown{}.Info()
		i.Version = "9.9.9"
		return i, nil
	}
	if r := runOne(t, subject, "info"); r.Outcome != Failed || !strings.Contains(r.Detail, "9.9.9") {
		t.Errorf("%s: %q", r.Outcome, r.Detail)
	}
}
