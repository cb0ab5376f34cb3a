package scaffold

import (
	"bytes"
	"embed"
	"fmt"
	"go/format"
	"path"
	"slices"
	"strings"
	"text/template"
)

//go:embed all:templates
var templates embed.FS

// values are what templates may use.
type values struct {
	Name, Package, Type, Var, Owner, Module string
	Service                                 string // its full name
	Replaced                                bool   // the module is taken from a checkout
	RawDescriptor                           string // as protoc-gen-go writes it
}

// Files returns the project's files in order of their paths, and writes nothing.
func (p Project) Files() ([]File, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	own, set, err := p.descriptors()
	if err != nil {
		return nil, err
	}
	v := values{
		Name: p.Name, Package: p.pkg(), Type: p.typ(), Var: strings.ToLower(p.typ()[:1]) + p.typ()[1:], Owner: p.Owner, Module: p.Module,
		Service: p.Owner + "." + p.pkg() + ".v1." + p.typ() + "Service", Replaced: p.Checkout != "", RawDescriptor: literal(own),
	}
	files := []File{{Path: p.source("descriptors.binpb"), Content: set}}
	folders := []string{"common", p.Lang}
	if p.Lang == Go {
		more, err := p.module()
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	} else {
		protocol, err := wireDescriptors()
		if err != nil {
			return nil, err
		}
		files = append(files, File{Path: p.source("protocol.binpb"), Content: protocol})
	}
	for _, folder := range folders {
		rendered, err := v.folder(folder)
		if err != nil {
			return nil, err
		}
		files = append(files, rendered...)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// source is the place of a file that belongs to the program.
func (p *Project) source(name string) string {
	if p.Lang == Python {
		return "src/" + name
	}
	return name
}

// place is where a template's file belongs.
func (v values) place(name string) string {
	proto := path.Join("proto", v.Owner, v.Package, "v1", v.Package)
	switch name {
	case "recipe.proto":
		return proto + ".proto"
	case "recipe.pb.go":
		return proto + ".pb.go"
	case "recipe_grpc.pb.go":
		return proto + "_grpc.pb.go"
	case "options.proto":
		return "third_party/conclave/recipe/v1/options.proto"
	case "recipe.py", "conclave_plugin.py":
		return "src/" + name
	case "gitignore":
		return ".gitignore"
	case "ci.yml":
		return ".github/workflows/ci.yml"
	default:
		return name
	}
}

// folder renders the templates of one folder.
func (v values) folder(folder string) ([]File, error) {
	dir := path.Join("templates", folder)
	entries, err := templates.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		text, err := templates.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		name, isTemplate := strings.CutSuffix(e.Name(), ".tmpl")
		if isTemplate {
			if text, err = v.render(name, string(text)); err != nil {
				return nil, err
			}
		}
		files = append(files, File{Path: v.place(name), Content: text, Program: bytes.HasPrefix(text, []byte("#!"))})
	}
	return files, nil
}

func (v values) render(name, text string) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	if !strings.HasSuffix(name, ".go") {
		return b.Bytes(), nil
	}
	// How gofmt aligns depends on how long names are.
	return format.Source(b.Bytes())
}
