from tests.benchmarks.releases import Fixture


def video(name, *questions):
    return {"time": "[0:00:00 - 0:01:00]", "video_path": f"./videos/{name}.mp4", "questions": list(questions)}


def choice(task, time, answer, options=("A. red", "B. blue", "C. green", "D. none"), question="Which colour?"):
    return {"task_type": task, "question": question, "time_stamp": time, "answer": answer, "options": list(options)}


def proactive(posed, due, said="goal"):
    return {
        "task_type": "Proactive Output",
        "question": f'When there is a goal, output "{said}".',
        "time_stamp": posed,
        "ground_truth_time_stamp": due,
        "ground_truth_output": said,
    }


FILES = {
    "questions_omni.json": [
        # Cut lines are joined to the option before; two options with one letter cannot be told apart.
        video("o1", choice("Emotion Recognition", "00:02:00", "D", ["A. red", "or pink", "B. blue", "C. x", "D. y"])),
        video("o2", choice("Anomaly Context Understanding", "0:50", "B", ["A. red", "B. blue", "C. x", "B. y"])),
        video("o3", choice("Anomaly Context Understanding", "0:50", "C")),
    ],
    "questions_proactive.json": [
        video("p1", proactive("00:00:10", "00:00:13")),
        video("p2", proactive("00:00:10", "00:00:13")),
        video("p3", proactive("00:00:10", "00:00:13")),
        video("p4", proactive("00:00:10", "00:00:09")),
    ],
    "questions_proactive_50.json": [video("p9", proactive("00:00:10", "00:00:13"))],
    "questions_real.json": [
        video("r1", choice("Counting", "00:03:20", "A"), choice("Counting", "00:12450", "A")),
        video("r2", choice("Counting", "00:03:20", "E"), choice("Counting", "0:00:00", "A")),
        video("r3", choice("Object Recognition", "0:07:40", "B"), choice("Object Recognition", "0:07:40", "B")),
    ],
    "questions_real_stream.json": [video("r1", choice("Counting", "00:03:20", "A"))],
    "questions_sqa.json": [
        [
            video("s1", choice("Sequential Question Answering", "00:00:36", "A", ["red.", "blue.", "green.", "none."])),
            video("s1", choice("Sequential Question Answering", "00:01:36", "B", question="And now?")),
        ]
    ],
}
QUESTIONS = (
    "o1 00:02:00",
    "o3 0:50",
    *(
        f"{name} 00:00:10 {ask} {second}"
        for name in ("p1", "p2", "p3")
        for second in range(11, 18)
        for ask in (("when", "what") if second <= 15 else ("when",))
    ),
    "r1 00:03:20",
    "r3 0:07:40",
    "r3 0:07:40#2",
    "s1 00:00:36",
    "s1 00:01:36",
)
#: p1 says yes at 14 and answers "Goal" there; p2 says yes at 16, too late; p3 says nothing at all.
REPLIES = {
    "o1 00:02:00": "D",
    "o3 0:50": "",
    **{f"p1 00:00:10 when {second}": "Yes" if second >= 14 else "No" for second in range(11, 18)},
    "p1 00:00:10 what 13": "nothing yet",
    "p1 00:00:10 what 14": "Goal",
    **{f"p2 00:00:10 when {second}": "Yes" if second >= 16 else "no, that is not a yes" for second in range(11, 18)},
    "p2 00:00:10 what 14": "goal",
    "r1 00:03:20": "The answer is A.",
    "r3 0:07:40": "Answer: A",
    "s1 00:00:36": "A",
}

FIXTURES = [
    Fixture(
        benchmark=name,
        layout="official",
        files={f"{directory}{file}": rows for file, rows in FILES.items()},
        questions=QUESTIONS,
        refused=(
            "its options have the letters A, B, C, B",
            "due at 9 s, before it is posed at 10 s",
            "'00:12450' is no time stamp such as 00:03:20",
            "its answer 'E' is none of its 4 options",
            "does not end after it starts",
        ),
        answers={"o1 00:02:00": "D", "p1 00:00:10 when 11": "Yes", "p1 00:00:10 when 16": "No"},
        replies=REPLIES,
        numbers={
            "realtime": 100 / 3,
            "omni": 100.0,
            "context": 0.0,
            "sequential": 50.0,
            "proactive time": 100 / 3,
            "proactive answer": 100 / 3,
        },
    )
    for name, directory in (("streamingbench", "src/data/"), ("streamingbench_all", ""))
]
