package cli

import (
	"errors"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/cmd/conclave/internal/scaffold"
)

// newPlugin is a new project as `plugin new` prints it.
type newPlugin struct {
	Name     string   `json:"name"`
	Lang     string   `json:"lang"`
	Path     string   `json:"path"`
	Files    []string `json:"files"`
	Checkout string   `json:"checkout,omitempty"` // that go.mod names
}

func (a *app) pluginNewCommand() *cobra.Command {
	p := scaffold.Project{Version: moduleVersion()}
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Begin a recipe of your own, in Go or in Python",
		Long: `new writes a project that builds and passes its tests as it is: the API as a .proto
file with the code that is generated from it, a recipe that serves it, its conformance
test, a manifest, and a README that says how to go on. It runs nothing, asks nobody,
and overwrites nothing.

A project in Go requires the version of Conclave's module that this program was built
from; with --replace, or inside a checkout of Conclave, it takes the module from there.`,
		Example: `  conclave plugin new seats && cd seats && go test ./...
  conclave plugin new seats --owner acme --module acme.example/seats
  conclave plugin new seats --lang python --dir ./plugins/seats`,
		Args: exactly(1, "NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			p.Name = args[0]
			return a.newPlugin(p)
		},
	}
	cmd.Flags().StringVar(&p.Lang, "lang", scaffold.Go, "go or python")
	cmd.Flags().StringVar(&p.Dir, "dir", "", "folder to make (default ./NAME)")
	cmd.Flags().StringVar(&p.Owner, "owner", scaffold.DefaultOwner, "what the names of your types begin with: your organisation's")
	cmd.Flags().StringVar(&p.Module, "module", "", "path of the Go module (default example.com/NAME)")
	cmd.Flags().StringVar(&p.Checkout, "replace", "", "folder with a checkout of Conclave, instead of a published version")
	return cmd
}

func (a *app) newPlugin(p scaffold.Project) error {
	if p.Dir == "" {
		p.Dir = p.Name
	}
	if p.Checkout == "" && p.Lang == scaffold.Go {
		if p.Checkout = scaffold.FindCheckout(filepath.Dir(p.Dir)); p.Checkout == "" {
			p.Checkout = scaffold.FindCheckout(".")
		}
	}
	files, err := p.Write()
	var bad *scaffold.Error
	switch {
	case errors.As(err, &bad):
		hint := ""
		if bad.Field == "replace" {
			hint = "conclave plugin new " + p.Name + " --replace DIR"
		}
		return usage("invalid_"+bad.Field, hint, "%s", bad.Error())
	case errors.Is(err, scaffold.ErrExists):
		return &Error{Exit: ExitNotAcquired, Code: codeName(codes.AlreadyExists), Reason: "conflict", Message: err.Error(), Hint: "name another with --dir", cause: err}
	case err != nil:
		return err
	}
	out, rows := newPlugin{Name: p.Name, Lang: p.Lang, Path: p.Dir, Files: []string{}, Checkout: p.Checkout}, [][]string{}
	for _, f := range files {
		path := filepath.Join(p.Dir, filepath.FromSlash(f.Path))
		out.Files = append(out.Files, path)
		rows = append(rows, []string{path})
	}
	return a.print(out, rows)
}

// moduleVersion is the published version that this program was built from, or "".
func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || strings.Contains(info.Main.Version, "(devel)") || strings.Contains(info.Main.Version, "+dirty") {
		return ""
	}
	return info.Main.Version
}
