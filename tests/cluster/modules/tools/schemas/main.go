// Command schemas turns Kubernetes' own OpenAPI document (swagger.json of the module k8s.io/kubernetes) into one JSON
// schema a kind, in the file layout that kubeconform reads, so that manifests are validated without the internet. Unknown
// fields are refused. It must not know any kind of ours: a CRD's schema is checked by the API server in the tests.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

type object = map[string]any

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: schemas SWAGGER_JSON FOLDER")
		os.Exit(2)
	}
	if err := convert(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

func convert(swagger, folder string) error {
	text, err := os.ReadFile(swagger)
	if err != nil {
		return err
	}
	var document struct{ Definitions map[string]object }
	if err := json.Unmarshal(text, &document); err != nil {
		return fmt.Errorf("%s: %w", swagger, err)
	}
	for _, definition := range document.Definitions {
		refuseUnknownFields(definition)
	}
	written := 0
	for name, definition := range document.Definitions {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 {
			continue // a list or an option type that many groups share
		}
		kind := kinds[0].(object)
		used := map[string]object{}
		collect(document.Definitions, name, used)
		schema, err := json.Marshal(object{"$ref": "#/definitions/" + name, "definitions": used})
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, fileName(kind)), schema, 0o644); err != nil {
			return err
		}
		written++
	}
	if written == 0 {
		return errors.New(swagger + ": no kind found in it")
	}
	return nil
}

// fileName is kubeconform's {{.ResourceKind}}{{.KindSuffix}}.json, as in deployment-apps-v1.json.
func fileName(kind object) string {
	group, _ := kind["group"].(string)
	parts := []string{kind["kind"].(string)}
	if group != "" {
		parts = append(parts, strings.Split(group, ".")[0])
	}
	parts = append(parts, kind["version"].(string))
	return strings.ToLower(strings.Join(parts, "-")) + ".json"
}

func refuseUnknownFields(definition object) {
	_, hasProperties := definition["properties"]
	_, hasMore := definition["additionalProperties"]
	open, _ := definition["x-kubernetes-preserve-unknown-fields"].(bool)
	if hasProperties && !hasMore && !open {
		definition["additionalProperties"] = false
	}
	if format, _ := definition["format"].(string); format == "int-or-string" {
		delete(definition, "type")
	}
}

// collect adds definition name and everything it refers to.
func collect(all map[string]object, name string, used map[string]object) {
	if _, seen := used[name]; seen || all[name] == nil {
		return
	}
	used[name] = all[name]
	references(all[name], func(reference string) { collect(all, reference, used) })
}

func references(value any, visit func(string)) {
	switch value := value.(type) {
	case object:
		for key, inner := range value {
			if text, isText := inner.(string); isText && key == "$ref" {
				visit(strings.TrimPrefix(text, "#/definitions/"))
			} else {
				references(inner, visit)
			}
		}
	case []any:
		for _, inner := range value {
			references(inner, visit)
		}
	}
}
