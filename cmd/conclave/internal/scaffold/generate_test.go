package scaffold_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/conclavehq/conclave/cmd/conclave/internal/scaffold"
)

var update = flag.Bool("update", false, "make the templates of generated code anew, with buf")

// repository is the module's root, from this package's folder.
const repository = "../../../.."

// write writes a project on this checkout into an empty folder.
func write(t *testing.T, p scaffold.Project) string {
	t.Helper()
	p.Dir, p.Checkout = filepath.Join(t.TempDir(), p.Name), repository
	if _, err := p.Write(); err != nil {
		t.Fatal(err)
	}
	return p.Dir
}

// output runs a command in a folder.
func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s%s", name, args, err, stdout.Bytes(), stderr.Bytes())
	}
	return strings.TrimSpace(stdout.String())
}

// tools are the generators, as the repository pins them.
type tools struct{ buf, gogen, grpc string }

func newTools(t *testing.T) tools {
	t.Helper()
	gogen := filepath.Join(t.TempDir(), "protoc-gen-go")
	output(t, repository, "go", "build", "-o", gogen, "google.golang.org/protobuf/cmd/protoc-gen-go")
	tool := func(name string) string {
		args := []string{"tool", "-modfile=tools/buf/go.mod"}
		output(t, repository, "go", append(args, name, "--version")...) // built and kept from here on
		return output(t, repository, "go", append(args, "-n", name)...)
	}
	return tools{tool("buf"), gogen, tool("protoc-gen-go-grpc")}
}

// generate does what the project's README says, with the tools that are here.
func (x tools) generate(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "buf.gen.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	gen := strings.NewReplacer("[go, run, google.golang.org/protobuf/cmd/protoc-gen-go]", x.gogen,
		"[go, run, google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2]", x.grpc).Replace(string(text))
	if gen == string(text) {
		t.Fatal("buf.gen.yaml names other generators")
	}
	output(t, dir, x.buf, "generate", "--template", gen)
	x.describe(t, dir)
}

func (x tools) describe(t *testing.T, dir string) {
	t.Helper()
	output(t, dir, x.buf, "lint")
	output(t, dir, x.buf, "format", "--diff", "--exit-code")
	output(t, dir, x.buf, "build", "proto", "--as-file-descriptor-set", "--exclude-source-info", "-o", "descriptors.binpb")
}

// What a project comes with is what buf makes of its .proto file.
func TestGeneratedCode(t *testing.T) {
	x := newTools(t)
	if *update {
		updateModel(t, x)
	}
	for _, p := range []scaffold.Project{
		{Name: "tally", Lang: scaffold.Go},
		{Name: "a-much-longer-name-0", Lang: scaffold.Go, Owner: "acme", Module: "acme.example/recipes/long"},
		{Name: "x", Lang: scaffold.Go, Owner: "y", Module: "m"},
	} {
		dir := write(t, p)
		was := contents(t, dir)
		x.generate(t, dir)
		for name, is := range contents(t, dir) {
			if name == "descriptors.binpb" {
				if !sameDescriptors(t, was[name], is) {
					t.Errorf("%s: %s: buf makes another", p.Name, name)
				}
				continue
			}
			if !bytes.Equal(was[name], is) {
				t.Errorf("%s: %s: buf makes another: %s", p.Name, name, difference(was[name], is))
			}
		}
	}
}

// difference is the first line that differs.
func difference(a, b []byte) string {
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d: %q, not %q", i+1, y[i], x[i])
		}
	}
	return fmt.Sprintf("%d lines, not %d", len(y), len(x))
}

func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[rel] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// sameDescriptors compares the projects' own files. Those that they import may
// come from another version of protobuf.
func sameDescriptors(t *testing.T, a, b []byte) bool {
	t.Helper()
	own := func(b []byte) *descriptorpb.FileDescriptorProto {
		set := new(descriptorpb.FileDescriptorSet)
		if err := proto.Unmarshal(b, set); err != nil {
			t.Fatal(err)
		}
		return set.GetFile()[len(set.GetFile())-1]
	}
	x, y := own(a), own(b)
	y.SourceCodeInfo = nil
	return proto.Equal(x, y)
}

// updateModel makes the templates of generated code from what buf makes of the
// project "tally".
func updateModel(t *testing.T, x tools) {
	t.Helper()
	dir := write(t, scaffold.Project{Name: "tally", Lang: scaffold.Go})
	x.generate(t, dir)
	all, err := os.ReadFile(filepath.Join(dir, "descriptors.binpb"))
	if err != nil {
		t.Fatal(err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(all, set); err != nil {
		t.Fatal(err)
	}
	own := set.GetFile()[len(set.GetFile())-1]
	own.SourceCodeInfo = nil
	model, err := proto.MarshalOptions{Deterministic: true}.Marshal(own)
	if err != nil {
		t.Fatal(err)
	}
	save(t, "templates/gen/model.binpb", model)
	raw := regexp.MustCompile(`(?s)(rawDesc = "" \+\n\t).*?\n\n`)
	for _, name := range []string{"tally.pb.go", "tally_grpc.pb.go"} {
		text, err := os.ReadFile(filepath.Join(dir, "proto", "example", "tally", "v1", name))
		if err != nil {
			t.Fatal(err)
		}
		text = raw.ReplaceAll(text, []byte("${1}{{.RawDescriptor}}\n\n"))
		text = []byte(strings.NewReplacer("example_tally", "{{.Owner}}_{{.Package}}", "example.tally", "{{.Owner}}.{{.Package}}",
			"example/tally", "{{.Owner}}/{{.Package}}", "tally.proto", "{{.Package}}.proto", "tally_proto", "{{.Package}}_proto",
			"tallyv1", "{{.Package}}v1", "tallyService", "{{.Var}}Service", "Tally", "{{.Type}}").Replace(string(text)))
		if left := regexp.MustCompile(`[Tt]ally|example`).FindString(string(text)); left != "" {
			t.Fatalf("%s: %q is left", name, left)
		}
		save(t, filepath.Join("templates", "go", strings.Replace(name, "tally", "recipe", 1)+".tmpl"), text)
	}
	t.Fatal("the templates are new: run the test again, without -update")
}

func save(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(fmt.Errorf("save: %w", err))
	}
}
