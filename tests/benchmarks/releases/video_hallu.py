from tests.benchmarks.releases import Fixture


def row(question, answer, category="Physics", path="./Veo2/1.mp4", model="veo2"):
    return {
        "RowID": "59",
        "Model": model,
        "Caption Notes": "",
        "annotator": "x",
        "video_path": path,
        "Prompt": "A stone falls.",
        "Question": question,
        "Answer": answer,
        "Categorization-1": category,
        "Categorization-2": "Physics - Motion",
    }


ROWS = [
    row("Does it fall?", "Yes", model="Veo2"),
    row("Does it fall?", "Yes"),
    row("What falls?", "A stone.", "Alignment"),
    row("Why?", "", "Alignment"),
    row("Where?", "Down", "Weather"),
    row("Who?", "Nobody", path=" "),
]
FIRST = "./Veo2/1.mp4 Does it fall?"
THIRD = "./Veo2/1.mp4 What falls?"

FIXTURES = [
    Fixture(
        benchmark="videohallu",
        layout="official",
        files={name: ROWS},
        questions=(FIRST, f"{FIRST}#2", THIRD),
        refused=("its Answer is blank", "'Weather' is none of", "it names no video"),
        replies=replies,
        numbers=numbers,
    )
    for name, replies, numbers in (
        ("data.jsonl", {FIRST: "yes", f"{FIRST}#2": "Yes.", THIRD: "a stone"}, {"overall": 100.0, "Physics": 100.0}),
        ("Data/data.csv", {FIRST: "yes"}, {"overall": 100 / 3, "Physics": 50.0, "Alignment": 0.0}),
    )
]
