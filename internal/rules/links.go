package rules

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strings"
)

var markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// CheckLinks reports links of documentation pages to files that the repository
// does not have. Links to other sites are not followed: a test needs no
// network.
func CheckLinks(files []File) []string {
	exists := map[string]bool{".": true}
	for _, f := range files {
		for p := f.Path; p != "."; p = path.Dir(p) {
			exists[p] = true
		}
	}
	var violations []string
	for _, f := range files {
		if path.Ext(f.Path) != ".md" {
			continue
		}
		for i, line := range bytes.Split(f.Text, []byte("\n")) {
			for _, m := range markdownLink.FindAllSubmatch(line, -1) {
				target, _, _ := strings.Cut(string(m[1]), "#")
				if target == "" || strings.Contains(target, ":") {
					continue
				}
				if p := path.Join(path.Dir(f.Path), target); !exists[p] {
					violations = append(violations, fmt.Sprintf("%s:%d: link to %s, which does not exist", f.Path, i+1, p))
				}
			}
		}
	}
	return violations
}
