def loader_code(steps: object) -> str:
    return ""
