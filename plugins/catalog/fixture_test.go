package catalog

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

const patience = 30 * time.Second

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// folder is a plugin's folder as an author makes it.
type folder struct {
	t   *testing.T
	dir string
}

// newFolder makes the folder of a plugin without sums and signature.
func newFolder(t *testing.T, name, version string) folder {
	t.Helper()
	f := folder{t, t.TempDir()}
	f.write(ManifestName, "name: "+name+"\nversion: "+version+`
summary: Jobs on a schedule
protocol: 1
services: [acme.jobs.v1.JobService]
config: acme.jobs.v1.Config
descriptors: {file: jobs.binpb}
binaries:
  any: {file: jobs}
`)
	f.write("jobs.binpb", string(descriptors(t)))
	f.write("jobs", "#!/bin/sh\n# "+name+" "+version+"\n")
	return f
}

func (f folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f folder) write(name, content string) {
	f.t.Helper()
	// What is written may be run: see store.write.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(f.path(name), []byte(content), 0o700); err != nil {
		f.t.Fatal(err)
	}
}

func (f folder) read(name string) string {
	f.t.Helper()
	b, err := os.ReadFile(f.path(name))
	if err != nil {
		f.t.Fatal(err)
	}
	return string(b)
}

// seal writes the sums into the manifest.
func (f folder) seal() folder {
	f.t.Helper()
	m := strings.Replace(f.read(ManifestName), "jobs.binpb}", "jobs.binpb, sha256: "+string(SumOf([]byte(f.read("jobs.binpb"))))+"}", 1)
	f.write(ManifestName, strings.Replace(m, "{file: jobs}", "{file: jobs, sha256: "+string(SumOf([]byte(f.read("jobs"))))+"}", 1))
	return f
}

// sign seals the folder and signs the manifest.
func (f folder) sign(k SecretKey) folder {
	f.t.Helper()
	f.seal()
	f.write(SignatureName, string(k.Sign([]byte(f.read(ManifestName)), "test")))
	return f
}

func descriptors(t *testing.T) []byte {
	t.Helper()
	method := &descriptorpb.MethodDescriptorProto{Name: new("Add"), InputType: new(".acme.jobs.v1.Config"), OutputType: new(".acme.jobs.v1.Config")}
	b, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{{
		Name: new("acme/jobs/v1/jobs.proto"), Package: new("acme.jobs.v1"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Config")}},
		Service:     []*descriptorpb.ServiceDescriptorProto{{Name: new("JobService"), Method: []*descriptorpb.MethodDescriptorProto{method}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// a host's data directory, and a catalog in it.
func newCatalog(t *testing.T, cfg Config) (*Catalog, string) {
	t.Helper()
	data := t.TempDir()
	return openCatalog(t, cfg, data), data
}

func openCatalog(t *testing.T, cfg Config, data string) *Catalog {
	t.Helper()
	c, err := Open(cfg, data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// add adds a folder, as a host does when the plugin has started.
func add(t *testing.T, c *Catalog, f folder) *Plugin {
	t.Helper()
	p, err := tryAdd(t, c, f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryAdd(t *testing.T, c *Catalog, f folder) (*Plugin, error) {
	t.Helper()
	pkg, err := ReadFolder(f.dir, Platform())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := pkg.Close(); err != nil {
			t.Error(err)
		}
	}()
	p, err := c.Prepare(within(t), pkg)
	if err != nil {
		return nil, err
	}
	return p, c.Pin(pkg, p)
}

// only returns the one entry that the catalog has.
func only(t *testing.T, c *Catalog) Entry {
	t.Helper()
	entries, err := c.Load(within(t))
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	return entries[0]
}
