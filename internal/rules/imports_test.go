package rules

import (
	"strings"
	"testing"
)

func TestImportTable(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		for _, v := range CheckImports(ImportTable(), packages(t, goos)) {
			t.Errorf("GOOS=%s: %s", goos, v)
		}
	}
}

// TestImportTableCanFail breaks every pattern of every row once.
func TestImportTableCanFail(t *testing.T) {
	example := func(pattern string) string {
		if pattern == "./..." {
			pattern = "./any/package"
		}
		if rest, ok := strings.CutPrefix(pattern, "./"); ok {
			pattern = Module + "/" + rest
		}
		return strings.TrimSuffix(pattern, "/...")
	}
	for _, r := range ImportTable() {
		for _, who := range r.Who {
			for _, never := range r.Never {
				bad := Package{ImportPath: example(who), Imports: []string{"fmt"}, Deps: []string{"fmt", example(never)}}
				if r.Direct {
					bad.Imports = append(bad.Imports, example(never))
				}
				if matchesAny(r.But, example(never)) {
					continue
				}
				got := CheckImports([]ImportRule{r}, []Package{bad})
				if len(got) != 1 || !strings.Contains(got[0], r.Why) {
					t.Errorf("%s: %s on %s: got %q, want one violation with its reason", r.Name, who, never, got)
				}
			}
		}
	}
}

func TestImportRuleExceptions(t *testing.T) {
	rule := ImportRule{
		Who: []string{"./a/..."}, Except: []string{"./a/free/..."}, Never: []string{"./b/...", "zap"}, But: []string{"./b/ok"},
		Direct: true, Why: "reason",
	}
	for _, c := range []struct {
		pkg, imported string
		want          int
	}{
		{"a", "b", 1},
		{"a/deep/er", "b/x", 1},
		{"a", "b/ok", 0},
		{"a/free", "b", 0},
		{"ab", "b", 0},
		{"a", "bc", 0},
	} {
		p := Package{ImportPath: Module + "/" + c.pkg, Imports: []string{Module + "/" + c.imported}, Deps: []string{"zap"}}
		if got := CheckImports([]ImportRule{rule}, []Package{p}); len(got) != c.want {
			t.Errorf("%s on %s: got %q, want %d violations", c.pkg, c.imported, got, c.want)
		}
	}
}
