package rules

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A documentation page shows code between a marker and the end of its block:
//
//	<!-- snippet: lock/example_test.go#mutex -->
//	```go
//	…
//	```
//
// and the compiled file has the same lines between "// snippet:mutex" and
// "// end".
var (
	markerLine = regexp.MustCompile(`^<!-- snippet: (\S+)#(\S+) -->$`)
	errRegion  = errors.New("no such region")
)

// Region returns the lines of a region of a Go file, without their common
// indentation.
func Region(text []byte, name string) (string, error) {
	var lines []string
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, " \t\n")
		switch word := strings.TrimSpace(line); {
		case !inside:
			inside = word == "// snippet:"+name
		case word == "// end":
			return dedent(lines), nil
		case strings.HasPrefix(word, "// snippet:"):
			return "", fmt.Errorf("region %s: another region begins inside it", name)
		default:
			lines = append(lines, line)
		}
	}
	if inside {
		return "", fmt.Errorf("region %s: no line \"// end\" after it", name)
	}
	return "", fmt.Errorf("region %s: %w", name, errRegion)
}

func dedent(lines []string) string {
	indent := -1
	for _, l := range lines {
		if l != "" {
			n := len(l) - len(strings.TrimLeft(l, "\t"))
			if indent < 0 || n < indent {
				indent = n
			}
		}
	}
	var b strings.Builder
	for _, l := range lines {
		if l != "" {
			l = l[indent:]
		}
		b.WriteString(l + "\n")
	}
	return b.String()
}

// Snippets returns page with every marked block replaced by the region that its
// marker names, and a violation for each block of Go without a marker and each
// marker without a region. read returns the text of a file of the repository.
func Snippets(page File, read func(path string) ([]byte, error)) (string, []string) {
	var (
		out        strings.Builder
		violations []string
	)
	report := func(line int, format string, args ...any) {
		violations = append(violations, fmt.Sprintf("%s:%d: ", page.Path, line)+fmt.Sprintf(format, args...))
	}
	lines := strings.SplitAfter(string(page.Text), "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], "\n")
		m := markerLine.FindStringSubmatch(line)
		if m == nil {
			if line == "```go" {
				report(i+1, "Go code without a snippet marker: nothing compiles it, so it will drift")
			}
			out.WriteString(lines[i])
			continue
		}
		end := blockEnd(lines, i+1)
		if end < 0 {
			report(i+1, "no block ```go … ``` follows the marker")
			out.WriteString(lines[i])
			continue
		}
		body, err := region(m[1], m[2], read)
		if err != nil {
			report(i+1, "%s: %v", m[1], err)
			body = strings.Join(lines[i+2:end], "")
		}
		out.WriteString(lines[i] + lines[i+1] + body + lines[end])
		i = end
	}
	return out.String(), violations
}

func region(path, name string, read func(path string) ([]byte, error)) (string, error) {
	text, err := read(path)
	if err != nil {
		return "", err
	}
	return Region(text, name)
}

// blockEnd returns the index of the line that ends the Go block beginning at
// lines[begin], or -1 if none begins there.
func blockEnd(lines []string, begin int) int {
	if begin >= len(lines) || strings.TrimSpace(lines[begin]) != "```go" {
		return -1
	}
	for i := begin + 1; i < len(lines); i++ {
		if strings.TrimSpace(lines[i]) == "```" {
			return i
		}
	}
	return -1
}
