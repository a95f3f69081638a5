// Draws a picture from a text: `diagram FILE.txt >FILE.svg`. Box-drawing characters become lines, the triangles ▲▼◄► become
// arrow heads, and everything else stays text. It decides nothing about the layout: the text is the layout.
package main

import (
	"bufio"
	"fmt"
	"html"
	"os"
	"strings"
)

// The size of one character, in pixels; the font is as wide as it says, since textLength stretches it.
const width, height = 9, 18

// Which of the four directions a character's lines go to: left, right, up, down.
var lines = map[rune]string{
	'─': "lr", '│': "ud", '┌': "rd", '┐': "ld", '└': "ru", '┘': "lu", '├': "rud", '┤': "lud", '┬': "lrd", '┴': "lru", '┼': "lrud",
}

// The corners of each arrow head, relative to the character's middle.
var heads = map[rune]string{'▲': "0,-9 -5,3 5,3", '▼': "0,9 -5,-3 5,-3", '◄': "-5,0 4,-5 4,5", '►': "5,0 -4,-5 -4,5"}

// Where the line of an arrow head goes on, relative to the character's middle.
var tails = map[rune][2]int{'▲': {0, height / 2}, '▼': {0, -height / 2}, '◄': {width - width/2, 0}, '►': {-width / 2, 0}}

func main() {
	if len(os.Args) != 2 {
		fail("usage: diagram FILE.txt")
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		fail(err.Error())
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	draw(out, strings.Split(strings.TrimRight(string(text), "\n"), "\n"))
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, "diagram: "+message)
	os.Exit(1)
}

func draw(out *bufio.Writer, rows []string) {
	columns := 0
	for _, row := range rows {
		columns = max(columns, len([]rune(row)))
	}
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n",
		columns*width, len(rows)*height, columns*width, len(rows)*height)
	fmt.Fprintln(out, `<style>text{font:14px ui-monospace,Menlo,Consolas,monospace;fill:#24292f;white-space:pre}`+
		`path{stroke:#57606a;stroke-width:1.5}polygon{fill:#57606a}`+
		`@media(prefers-color-scheme:dark){text{fill:#e6edf3}path{stroke:#8b949e}polygon{fill:#8b949e}}</style>`)
	for y, row := range rows {
		drawRow(out, []rune(row), y*height)
	}
	fmt.Fprintln(out, "</svg>")
}

func drawRow(out *bufio.Writer, row []rune, top int) {
	for x := 0; x < len(row); {
		left := x * width
		middle, center := left+width/2, top+height/2
		if head, ok := heads[row[x]]; ok {
			fmt.Fprintf(out, `<path d="M%d %dL%d %d"/>`+"\n", middle, center, middle+tails[row[x]][0], center+tails[row[x]][1])
			fmt.Fprintf(out, `<polygon points="%s" transform="translate(%d,%d)"/>`+"\n", head, middle, center)
			x++
		} else if directions, ok := lines[row[x]]; ok {
			ends := map[rune][2]int{'l': {left, center}, 'r': {left + width, center}, 'u': {middle, top}, 'd': {middle, top + height}}
			path := ""
			for _, direction := range directions {
				path += fmt.Sprintf("M%d %dL%d %d", middle, center, ends[direction][0], ends[direction][1])
			}
			fmt.Fprintf(out, `<path d="%s"/>`+"\n", path)
			x++
		} else {
			x += drawText(out, row[x:], left, center+5)
		}
	}
}

// Draws the words at the beginning of a row, up to the next line, arrow head or gap; gives how many characters these are.
func drawText(out *bufio.Writer, row []rune, left, base int) int {
	end := 0
	for end < len(row) {
		_, isLine := lines[row[end]]
		_, isHead := heads[row[end]]
		if isLine || isHead || (row[end] == ' ' && (end == 0 || end+1 < len(row) && row[end+1] == ' ')) {
			break
		}
		end++
	}
	words := strings.TrimRight(string(row[:end]), " ")
	if count := len([]rune(words)); count > 0 {
		fmt.Fprintf(out, `<text x="%d" y="%d" textLength="%d">%s</text>`+"\n", left, base, count*width, html.EscapeString(words))
	}
	return max(end, 1)
}
