//go:build unix

package catalog

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
)

// described is the folder of a binary that describes itself; the change is of what
// it says.
func described(t *testing.T, change func(*pluginv1.Description)) string {
	t.Helper()
	set := new(descriptorpb.FileDescriptorSet)
	must(t, proto.Unmarshal(descriptors(t), set))
	d := &pluginv1.Description{Name: "jobs", Version: "1.2.0", Summary: "Jobs on a schedule", Protocol: 1, Language: "go",
		Services: []string{"acme.jobs.v1.JobService"}, Config: "acme.jobs.v1.Config", Descriptors: set}
	change(d)
	b, err := proto.Marshal(d)
	must(t, err)
	f := folder{t, t.TempDir()}
	f.write("jobs.answer", string(b))
	f.write("jobs", "#!/bin/sh\n[ \"$1\" = --describe=binary ] && [ -z \"$SECRET\" ] && cat \"$0.answer\"\n")
	return f.path("jobs")
}

func TestABinaryThatDescribesItself(t *testing.T) {
	t.Setenv("SECRET", "x")
	binary := described(t, func(*pluginv1.Description) {})
	p, err := Read(within(t), binary)
	must(t, err)
	defer func() { must(t, p.Close()) }()
	if p.Manifest.Name != "jobs" || p.Binary != binary || len(p.Files.GetFile()) != 1 {
		t.Errorf("%+v", p.Manifest)
	}
	if again, err := ParseManifest(p.Source); err != nil || again.Config != "acme.jobs.v1.Config" {
		t.Errorf("its manifest: %v\n%s", err, p.Source)
	}
	again, err := Read(within(t), binary)
	must(t, err)
	if !bytes.Equal(again.Source, p.Source) {
		t.Error("asked again it has another manifest")
	}
	c, _ := newCatalog(t, Config{})
	prepared, err := c.Prepare(within(t), p)
	must(t, err)
	must(t, c.Pin(p, prepared))
	if e := only(t, c); e.Err != nil {
		t.Error(e.Err)
	}
}

func TestBinariesThatDoNotDescribeThemselves(t *testing.T) {
	script := func(body string) func(t *testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			f := folder{t, t.TempDir()}
			f.write("x", "#!/bin/sh\n"+body+"\n")
			return f.path("x")
		}
	}
	says := func(change func(*pluginv1.Description)) func(t *testing.T) string {
		return func(t *testing.T) string { t.Helper(); return described(t, change) }
	}
	for name, c := range map[string]struct {
		binary func(t *testing.T) string
		want   string
	}{
		"another program":   {script("echo \"unknown option $1\" >&2; exit 2"), "exit status 2: unknown option --describe=binary"},
		"one that is mute":  {script("true"), "is it a plugin of Conclave?"},
		"one that chatters": {script("echo hello"), "is it a plugin of Conclave?"},
		"one without end":   {script("head -c 20000000 /dev/zero"), "prints more than"},
		"no program": {func(t *testing.T) string {
			t.Helper()
			f := folder{t, t.TempDir()}
			f.write("x", "hello")
			return f.path("x")
		}, "exec format error"},
		"not executable": {func(t *testing.T) string {
			t.Helper()
			path := script("true")(t)
			must(t, os.Chmod(path, 0o600))
			return path
		}, "permission denied"},
		"a bad name":        {says(func(d *pluginv1.Description) { d.Name = "Jobs" }), "name: "},
		"another protocol":  {says(func(d *pluginv1.Description) { d.Protocol = 2 }), "protocol"},
		"no descriptors":    {says(func(d *pluginv1.Description) { d.Descriptors = nil }), "services: "},
		"half a descriptor": {says(func(d *pluginv1.Description) { d.Descriptors.File[0].Dependency = []string{"other.proto"} }), "other.proto"},
	} {
		if _, err := Read(within(t), c.binary(t)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Read(ctx, script("sleep 1000")(t)); err == nil {
		t.Error("one that hangs was waited for, and answered")
	}
	if _, err := Read(within(t), "/nowhere/at/all"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}
